// Staff look at who is in the store.
// node staff.mjs LANGUAGE PICTURES URL PASSWORD GUEST, in the staff's network namespace.

import { check, phone } from "./phone.mjs";

const [language, pictures, url, password, guest] = process.argv.slice(2);
const inside = (asked) => asked.host === new URL(url).host;

await phone(language, pictures, inside, async (page, look) => {
  await page.goto(url);
  await look("staff-login");

  await page.fill('input[name="password"]', "wrong");
  await page.locator('form[action="/staff/login"] button').tap();
  await page.waitForSelector("#error");
  await look("staff-wrong-password");

  // The next try is let through a moment later.
  await page.waitForTimeout(2_000);
  await page.fill('input[name="password"]', password);
  await page.locator('form[action="/staff/login"] button').tap();
  await page.waitForSelector("svg.chart");
  check((await page.textContent("main")).includes(guest), `${guest} is not on the page`);
  await look("staff");

  await page.locator("summary").tap();
  await look("staff-hours");
});
