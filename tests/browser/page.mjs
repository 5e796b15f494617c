// One page as it stands.
// node page.mjs LANGUAGE PICTURES NAME URL, in the guest's network namespace.

import { phone } from "./phone.mjs";

const [language, pictures, name, url] = process.argv.slice(2);
const inside = (asked) => asked.host === new URL(url).host;

await phone(language, pictures, inside, async (page, look) => {
  await page.goto(url);
  await look(name);
});
