// A guest's way online by following the store's account.
// node follow.mjs LANGUAGE PICTURES CODE LINK, in the guest's network namespace: it writes the code that
// the page shows into the file CODE, and waits for the link that the account answers in the file LINK.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { check, phone, until } from "./phone.mjs";

const [language, pictures, codeFile, linkFile] = process.argv.slice(2);

const answered = () => until("the account's answer", () => existsSync(linkFile) && readFileSync(linkFile, "utf8"), 20);

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
  // The page looks whether the guest is online, and lets the selection be.
  const looks = [];
  page.on("response", (answer) => looks.push(answer.request().resourceType()));
  await until("the page to look", () => looks.includes("xhr"), 8);
  check(!looks.includes("document"), "the page was loaded anew");
  const selected = await page.evaluate(() => String(getSelection()).trim());
  check(selected === code, `not the code is selected but ${selected}`);
  // Without scripts it is loaded anew.
  await phone(language, pictures, inside, async (plain) => {
    await plain.goto(page.url());
    await plain.waitForNavigation({ timeout: 8_000 });
    check((await plain.locator(".copy").textContent()).trim() === code, "the page that refreshes shows another code");
  }, { scripts: false });
  writeFileSync(codeFile, `${code}\n`);

  // The link opens in WeChat's own browser; the page that waits goes on by itself.
  const waiting = await page.context().newPage();
  await waiting.goto(page.url());
  await page.goto(await answered());
  await look("follow-link");
  await page.locator('input[name="terms"]').tap();
  await page.locator('form[action^="/f/"] button').tap();
  await waiting.waitForSelector('form[action="/logout"]', { timeout: 8_000 });
  await waiting.close();
  await page.waitForSelector('form[action="/logout"]');
  await look("follow-online");
  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), "not online");
});
