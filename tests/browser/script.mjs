// What the pages' script does for a guest.
// node script.mjs LANGUAGE PICTURES PHONE SPOOL, in the guest's network namespace. Another code may be asked for after
// 4 s, a session lasts 9 s.

import { renameSync } from "node:fs";
import { check, messages, phone, until } from "./phone.mjs";

const [language, pictures, number, spool] = process.argv.slice(2);
const portal = "http://10.77.0.1:2050/";
const inside = (url) => url.port === "2050";

async function askCode(page) {
  await page.fill('input[name="phone"]', number);
  await page.locator('input[name="terms"]').check();
}

/** Counts the forms that are sent to `path`, and holds the first back for a second. */
async function slow(page, path) {
  const sent = [];
  await page.route(`**${path}`, async (route) => {
    sent.push(route.request().url());
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await route.continue().catch(() => {});
  });
  return sent;
}

async function tapTwice(page, button) {
  const { x, y, width, height } = await button.boundingBox();
  const tap = () => page.touchscreen.tap(x + width / 2, y + height / 2);
  await tap();
  await page.waitForTimeout(300);
  await tap();
}

async function oneMessage(page) {
  const sent = await slow(page, "/phone");
  await askCode(page);
  await tapTwice(page, page.locator('form[action="/phone"] button'));
  await page.waitForSelector('input[name="code"]');
  check(sent.length === 1, `${sent.length} forms sent by two taps`);
  check(messages(spool, number).length === 1, "not one message");
}

async function countsDown(page, look) {
  const again = page.locator('form[action="/resend"] button');
  const left = page.locator("[data-left]");
  const first = await left.textContent();
  check(await again.isDisabled(), "another code can be asked for at once");
  check((await page.evaluate(() => document.activeElement.id)) === "code", "the code's field is not ready");
  await look("counting");
  await until("the countdown", async () => (await left.count()) === 1 && (await left.textContent()) !== first, 2);
  await until("the end of the countdown", () => again.isEnabled());
  check((await left.count()) === 0, "the countdown is still there");
  check((await page.evaluate(() => document.activeElement.id)) === "code", "the countdown took the focus");
  const line = page.locator('form[action="/resend"] [role=status]');
  check((await line.textContent()) === (await line.getAttribute("data-then")), "the line does not say so");
  await again.tap();
  await until("a second message", () => messages(spool, number).length === 2);
  await page.waitForSelector("[data-left]");
}

async function goesOnByItself(page) {
  const sent = await slow(page, "/code");
  const code = messages(spool, number).at(-1);
  await page.locator("#code").pressSequentially(code);
  await page.waitForSelector('form[action="/logout"]');
  check(sent.length === 1, `${sent.length} forms sent`);
}

async function toTheEnd(page) {
  const left = page.locator("dd[data-left]");
  const first = await left.textContent();
  await until("the time left to run", async () => (await left.textContent()) !== first, 2);
  // Nobody touches the page, and it says why the session is over.
  await page.waitForSelector('form[action="/logout"]', { state: "detached", timeout: 12_000 });
  await page.waitForSelector('form[action="/extend"]');
}

/** No provider takes the message: the page says so without being asked. */
async function saysWhatWentWrong(page) {
  renameSync(spool, `${spool}.away`);
  await page.waitForTimeout(4_000);
  await askCode(page);
  await page.locator('form[action="/phone"] button').tap();
  await page.waitForSelector("[role=alert]", { timeout: 8_000 });
  check((await page.locator("#code").count()) === 1, "the step is lost");
  renameSync(`${spool}.away`, spool);
}

await phone(language, pictures, inside, async (page, look) => {
  await page.goto(portal);
  await oneMessage(page);
  await countsDown(page, look);
  await goesOnByItself(page);
  await toTheEnd(page);
  await page.locator('form[action="/extend"] button').tap();
  await page.locator('form[action="/logout"] button').tap();
  await page.locator('form[action="/change"] button').tap();
  await page.waitForSelector('input[name="phone"]');
  await saysWhatWentWrong(page);
});
