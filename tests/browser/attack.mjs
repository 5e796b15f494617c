// Whatever strangers write, nothing of it runs in the browsers of others or their own.
// node attack.mjs LANGUAGE PICTURES URL WHO PASSWORD, in a network namespace: as `staff`, who log in with the password;
// as a `guest` online, beside a device whose name is markup; or as a `stranger` at the portal's first page.

import { check, phone } from "./phone.mjs";

const [language, pictures, url, who, password] = process.argv.slice(2);
const MARKUP = `"><script>window.hit=1</script><img src=x onerror=window.hit=1><svg onload=window.hit=1>`;

/** None of it became a part of the page. */
async function unhurt(page, where) {
  await page.waitForTimeout(50);
  const found = await page.evaluate(() => [window.hit, ...document.querySelectorAll("[onerror], [onload], :not(body) > script")]);
  check(!found[0] && found.length === 1, `markup on the page: ${where}`);
}

/** Every field, link and header that a guest may fill. */
async function fields(page) {
  const evil = encodeURIComponent(MARKUP);
  const links = ["v/", "f/", "?lang=", "?lang=en&url=javascript:window.hit=1", "me?lang=en", "terms?", "wx/auth?extend=1&openId=", ""];
  for (const link of [...links.map((link) => url + link), "http://example.com/"]) {
    await page.goto(link + evil);
    await unhurt(page, link);
  }
  await page.setExtraHTTPHeaders({ "accept-language": MARKUP, "user-agent": `Android Safari ${MARKUP}` });
  for (const [path, field] of [["phone", "phone"], ["code", "code"], ["voucher", "code"], ["device", "session"], ["resend", "x"]]) {
    await page.goto(url);
    await Promise.all([page.waitForNavigation(), page.evaluate(send, [url + path, { [field]: MARKUP, terms: MARKUP }])]);
    await unhurt(page, path);
    if (who === "stranger" && path === "phone") check((await page.inputValue("#phone")) === MARKUP, "it is not shown again");
  }
}

/** Sends a form from the page that this runs in. */
function send([action, values]) {
  const form = Object.assign(document.createElement("form"), { method: "post", action });
  for (const [name, value] of Object.entries(values)) form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(form);
  form.submit();
}

/** As if the pages let markup through: the policy does not let it run, load or lead away. */
async function policy(page) {
  await page.goto(url);
  const refused = await page.evaluate(inject);
  for (const directive of ["base-uri", "connect-src", "object-src", "script-src", "script-src-attr", "script-src-elem", "style-src-elem"]) {
    check(refused.includes(directive), `${directive} is not refused, only ${refused}`);
  }
  const { hit, hidden, base } = await page.evaluate(() => ({
    hit: window.hit,
    hidden: getComputedStyle(document.body).display === "none",
    base: document.baseURI,
  }));
  check(!hit && !hidden && base.startsWith(url), `injected markup holds: ${hit}, ${hidden}, ${base}`);
}

/** Puts all that could do harm on the page that this runs in; what the browser refused. */
async function inject() {
  const refused = new Set();
  addEventListener("securitypolicyviolation", (event) => refused.add(event.effectiveDirective));
  const put = (name, more) => document.body.append(Object.assign(document.createElement(name), more));
  put("script", { textContent: "window.hit=1" });
  for (const src of ["/page.js", "data:text/javascript,window.hit=1", "http://example.com/evil.js"]) put("script", { src });
  put("iframe", { srcdoc: "<script>parent.hit=1</script>" });
  document.body.insertAdjacentHTML(
    "beforeend",
    `<img src="data:," onerror="window.hit=1"><a id="evil" href="javascript:window.hit=1">x</a>
     <object data="http://example.com/"></object><base href="http://example.com/"><style>body{display:none}</style>`,
  );
  document.getElementById("evil").click();
  setTimeout("window.hit=1", 0);
  await fetch("http://example.com/").catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 500));
  return [...refused];
}

async function story(page) {
  await page.goto(url);
  if (who === "staff") {
    await page.fill('input[name="password"]', password);
    await page.locator('form[action="/staff/login"] button').tap();
    await page.waitForSelector("svg.chart");
  }
  check(who === "stranger" || (await page.textContent("main")).includes("<img"), "the name is not on the page");
  await unhurt(page, "a name");
  if (who !== "staff") await fields(page);
  await policy(page);
}

await phone(language, pictures, () => true, story, { attacked: true });
