// A guest's way online by following the store's account.
// node follow.mjs LANGUAGE PICTURES CODE LINK, in the guest's network namespace: it writes the code that
// the page shows into the file CODE, and waits for the link that the account answers in the file LINK.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { check, phone } from "./phone.mjs";

const [language, pictures, codeFile, linkFile] = process.argv.slice(2);

async function answered() {
  for (let tries = 0; tries < 400; tries += 1) {
    if (existsSync(linkFile)) return readFileSync(linkFile, "utf8");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the account does not answer");
}

const inside = (url) => url.host === "example.com" || url.port === "2050";

await phone(language, pictures, inside, async (page, look) => {
  await page.goto("http://example.com/");
  await page.waitForFunction(() => document.querySelector("img.qr")?.naturalWidth > 100);
  await look("follow-offer");

  await page.locator('form[action^="/follow"] button').tap();
  await page.waitForSelector("ol.todo");
  await page.waitForFunction(() => document.querySelector("img.qr")?.naturalWidth > 100);
  await look("follow-waiting");

  // One tap selects the code to be copied.
  await page.locator(".copy").tap();
  const code = (await page.locator(".copy").textContent()).trim();
  check(/^[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$/.test(code), `no code: ${code}`);
  await page.waitForNavigation({ timeout: 8_000 });
  check((await page.locator(".copy").textContent()).trim() === code, "the page that refreshes shows another code");
  writeFileSync(codeFile, `${code}\n`);

  await page.goto(await answered());
  await look("follow-link");
  await page.locator('input[name="terms"]').tap();
  await page.locator('form[action^="/f/"] button').tap();
  await page.waitForSelector('form[action="/logout"]');
  await look("follow-online");
  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), "not online");
});
