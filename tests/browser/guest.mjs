// A guest's way online and off again, with scripts or without.
// node guest.mjs LANGUAGE PICTURES PHONE SPOOL RESULT, in the guest's network namespace; without scripts if RESULT,
// where the speed of the first page is written to, is empty.

import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { check, cost, messages, phone, until } from "./phone.mjs";

const [language, pictures, number, spool, result] = process.argv.slice(2);
const scripts = result !== "";

/** What the first page takes, beside a page with nothing on it. */
async function speed(page, url) {
  const empty = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<!doctype html><p>x"));
  await new Promise((resolve) => empty.listen(2052, "127.0.0.1", resolve));
  const [own, least] = [await cost(page, url), await cost(page, "http://127.0.0.1:2052/")];
  empty.close();
  check(own.median - least.median <= 100, `the first page takes ${own.median} ms, an empty one ${least.median} ms`);
  return `median ${own.median} ms, at most ${own.most} ms (a page of one letter: ${least.median} ms, ${least.most} ms)`;
}

/** What a slow phone has to fetch and lay out before it shows the first page. */
async function light(page) {
  const { elements, parts, bytes } = await page.evaluate(() => {
    const parts = performance.getEntriesByType("resource");
    const sent = [...performance.getEntriesByType("navigation"), ...parts].map((one) => one.transferSize);
    const elements = document.querySelectorAll("*").length;
    return { elements, parts: parts.length, bytes: sent.reduce((sum, one) => sum + one) };
  });
  const said = `the first page has ${elements} elements, ${parts} other parts and ${bytes} bytes`;
  check(elements <= 60 && parts <= 2 && bytes <= 30_000, said);
}

/** The fonts that an element is really shown in. */
async function fonts(page, selector) {
  const session = await page.context().newCDPSession(page);
  await session.send("DOM.enable");
  await session.send("CSS.enable");
  const { root } = await session.send("DOM.getDocument");
  const { nodeId } = await session.send("DOM.querySelector", { nodeId: root.nodeId, selector });
  const { fonts } = await session.send("CSS.getPlatformFontsForNode", { nodeId });
  await session.detach();
  return fonts.map(({ familyName }) => familyName).join();
}

const inside = (url) => url.host === "example.com" || url.port === "2050" || url.hostname === "127.0.0.1";

async function story(page, look) {
  await page.goto("http://example.com/");
  const portal = new URL(page.url());
  check(portal.port === "2050", `not at the portal but at ${page.url()}`);
  // They come after the page.
  const seen = () => page.evaluate(() => [".logo img", ".hero img"].every((at) => document.querySelector(at)?.naturalWidth));
  await until("the store's pictures", seen);
  await look("number");
  const shown = await fonts(page, "h1");
  check(language !== "zh-CN" || /CJK SC|WenQuanYi/.test(shown), `Chinese is shown in ${shown}`);
  await page.locator("summary").tap();
  await look("rules");
  await light(page);
  if (scripts) writeFileSync(result, await speed(page, portal.href));

  await page.goto(portal.href);
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

  // As an address book has it.
  await page.fill('input[name="phone"]', `+86 ${number.slice(0, 3)}-${number.slice(3, 7)} ${number.slice(7)}`);
  await page.locator('input[name="terms"]').check();
  await page.locator('form[action="/phone"] button').tap();
  await page.waitForSelector('input[name="code"]');
  await look("code");
  for (const [name, value] of [["autocomplete", "one-time-code"], ["inputmode", "numeric"]]) {
    check((await page.locator("#code").getAttribute(name)) === value, `no ${name}`);
  }
  // The sheet was closed to read the message.
  await page.goto("http://example.com/");
  await page.waitForSelector("#code");

  const code = await until("a message", () => messages(spool, number).at(-1));
  await page.fill('input[name="code"]', code === "000000" ? "000001" : "000000");
  if (!scripts) await page.locator('form[action="/code"] button').tap();
  await page.waitForSelector("#error");
  await look("wrong-code");

  // After a wrong code none is sent by itself. The message may have been copied with a space.
  await page.fill('input[name="code"]', `${code.slice(0, 3)} ${code.slice(3)}`);
  await new Promise((resolve) => setTimeout(resolve, 300));
  await page.locator('form[action="/code"] button').tap();
  await page.waitForSelector('form[action="/logout"]');
  check(new URL(page.url()).host === portal.host, `online page at ${page.url()}`);
  await look("online");

  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), `not online but at ${page.url()}`);

  await page.goto(portal.href);
  await page.locator('form[action="/extend"] button').tap();
  await page.waitForSelector('form[action="/logout"]');
  await look("extended");
  await page.locator('form[action="/logout"] button').tap();
  await page.waitForSelector('form[action="/logout"]', { state: "detached" });
  await look("offline");
}

await phone(language, pictures, inside, story, { scripts });
