// A guest who is online with two devices, and the guest's own data.
// node mine.mjs LANGUAGE PICTURES DATABASE, in the guest's network namespace.

import { renameSync } from "node:fs";
import { check, phone } from "./phone.mjs";

const [language, pictures, database] = process.argv.slice(2);
const portal = "http://10.77.0.1:2050/";
const inside = (url) => url.host === "example.com" || url.port === "2050";

/** The record cannot be read: the page says so, and goes on by itself when it can. */
async function busy(page, look) {
  renameSync(database, `${database}.away`);
  const answer = await page.goto(`${portal}me`);
  check(answer.status() === 503, `${answer.status()}`);
  const body = await answer.text();
  await page.route(portal, (route) => route.fulfill({ status: 503, contentType: "text/html; charset=utf-8", body }));
  await look("busy");
  renameSync(`${database}.away`, database);
  await page.unroute(portal);
  await page.waitForSelector('form[action="/logout"]');
}

/** A page of somebody else's cannot log the guest out. */
async function foreign(page, look) {
  await page.goto("http://example.com/");
  await page.evaluate((action) => {
    const form = Object.assign(document.createElement("form"), { method: "post", action });
    document.body.append(form);
    form.submit();
  }, `${portal}logout`);
  await page.waitForURL(`${portal}logout`);
  await look("foreign");
  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), "not online");
}

await phone(language, pictures, inside, async (page, look) => {
  await page.goto(portal);
  check((await page.locator('form[action="/device"]').count()) === 1, "one other device");
  await look("devices");
  await busy(page, look);
  await foreign(page, look);

  await page.goto(portal);
  await page.locator('a[href="/me"]').tap();
  await page.waitForSelector('form[action="/me/erase"]');
  await look("mine");
  const [file] = await Promise.all([page.waitForEvent("download"), page.locator('a[href="/me/data"]').tap()]);
  check(file.suggestedFilename() === "my-data.json", file.suggestedFilename());
  await page.locator('form[action="/me/erase"] button').tap();
  await page.waitForSelector('form[action="/me/erase"]', { state: "detached" });
  await look("forgotten");
});
