// A guest's way online and off again.
// node guest.mjs LANGUAGE PICTURES PHONE SPOOL RESULT, in the guest's network namespace.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { check, phone, cost } from "./phone.mjs";

const [language, pictures, number, spool, result] = process.argv.slice(2);

/** The code in the newest message to the phone; waits 5 s at most. */
async function newestCode() {
  for (let tries = 0; tries < 100; tries += 1) {
    for (const name of readdirSync(spool).filter((name) => name.endsWith(".json")).sort().reverse()) {
      const message = JSON.parse(readFileSync(join(spool, name), "utf8"));
      if (message.to.endsWith(number)) return message.code;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("no message came");
}

const inside = (url) => url.host === "example.com" || url.port === "2050";

await phone(language, pictures, inside, async (page, look) => {
  await page.goto("http://example.com/");
  const portal = new URL(page.url());
  check(portal.port === "2050", `not at the portal but at ${page.url()}`);
  await look("number");
  await page.locator("summary").tap();
  await look("rules");
  const took = await cost(page, portal.href);
  writeFileSync(result, `${took}`);
  check(took <= 100, `the first page took ${took} ms of a slow phone`);

  await page.locator('a[href="/terms"]').tap();
  await page.waitForURL("**/terms");
  await look("terms");
  await page.locator("main a.button").tap();
  await page.locator('a[href="/privacy"]').tap();
  await page.waitForURL("**/privacy");
  await look("privacy");
  await page.locator("main a.button").tap();

  await page.fill('input[name="phone"]', "12");
  await page.locator('input[name="terms"]').check();
  await page.locator('form[action="/phone"] button').tap();
  await page.waitForSelector("#error");
  await look("bad-number");

  await page.fill('input[name="phone"]', number);
  await page.locator('input[name="terms"]').check();
  await page.locator('form[action="/phone"] button').tap();
  await page.waitForSelector('input[name="code"]');
  await look("code");

  const code = await newestCode();
  await page.fill('input[name="code"]', code === "000000" ? "000001" : "000000");
  await page.locator('form[action="/code"] button').tap();
  await page.waitForSelector("#error");
  await look("wrong-code");

  await page.fill('input[name="code"]', code);
  await page.locator('form[action="/code"] button').tap();
  await page.waitForSelector('form[action="/logout"]');
  check(new URL(page.url()).host === portal.host, `online page at ${page.url()}`);
  await look("online");

  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), "not online");

  await page.goto(portal.href);
  await page.locator('form[action="/extend"] button').tap();
  await page.waitForSelector('form[action="/logout"]');
  await look("extended");
  await page.locator('form[action="/logout"] button').tap();
  await page.waitForSelector('form[action="/logout"]', { state: "detached" });
  await look("offline");
});
