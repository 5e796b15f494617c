// A guest's way online with a voucher.
// node voucher.mjs LANGUAGE PICTURES typed CODE SHEET, or … scanned LINK "", in the guest's network
// namespace: types a code on the first page and looks at the sheet, or opens a scanned link.

import { check, phone } from "./phone.mjs";

const [language, pictures, way, word, sheet] = process.argv.slice(2);

const inside = (url) => url.host === "example.com" || url.port === "2050" || url.protocol === "file:";

async function typed(page, look) {
  await page.goto("http://example.com/");
  await page.locator("summary", { hasText: /voucher|上网券/ }).tap();
  await look("voucher-offer");

  const field = page.locator("#voucher");
  await field.fill("0000-0000-0000");
  await page.locator('form[action^="/voucher"] input[type=checkbox]').check();
  await page.locator('form[action^="/voucher"] button').tap();
  await page.waitForSelector("[role=alert]");
  await look("voucher-wrong");

  await field.fill(word.toLowerCase());
  await page.locator('form[action^="/voucher"] input[type=checkbox]').check();
  await page.locator('form[action^="/voucher"] button').tap();
  await page.waitForSelector('form[action^="/logout"]');
  await look("voucher-online");
  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), "not online");

  // As printed; one voucher is kept, so that whoever scans the picture sees one code.
  await page.setViewportSize({ width: 800, height: 1100 });
  await page.goto(`file://${sheet}`);
  await page.emulateMedia({ media: "print" });
  const count = await page.locator("li").count();
  check(count === 4, `${count} vouchers on the sheet`);
  await page.evaluate(() => [...document.querySelectorAll("li")].forEach((one, place) => place === 1 || one.remove()));
  await look("voucher-sheet");
}

async function scanned(page, look) {
  await page.goto(word);
  const buttons = await page.locator("button").count();
  check(buttons === 1, `${buttons} buttons`);
  await look("voucher-scanned");
  await page.locator('form[action^="/voucher"] input[type=checkbox]').check();
  await page.locator("button").tap();
  await page.waitForSelector('form[action^="/logout"]');
  await look("voucher-scanned-online");
}

await phone(language, pictures, inside, way === "typed" ? typed : scanned);
