// Makes what the binary serves (../assets) from what is here. `npm ci --ignore-scripts`
// first; then `npm run make`. With `--check` it only says whether they differ.

import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const assets = join(here, "..", "assets");
const check = process.argv.includes("--check");
const out = check ? mkdtempSync(join(tmpdir(), "ovsns-page-")) : assets;

/** What is in the bundle, with the terms of each. */
const packages = [
  "cytoscape", "@xterm/xterm", "@xterm/addon-fit", "d3-force", "d3-quadtree", "d3-dispatch", "d3-timer",
];

const read = (...path) => readFileSync(join(...path), "utf8");
mkdirSync(out, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { page: "main.ts", "page-style": "page.css" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "external",
  logLevel: "warning",
});
const legal = [];
for (const name of readdirSync(out).filter((name) => name.endsWith(".LEGAL.txt")).sort()) {
  legal.push(read(out, name).trim());
  rmSync(join(out, name));
}
writeFileSync(join(out, "page.css"), read(out, "page-style.css"));
rmSync(join(out, "page-style.css"));
for (const name of ["index.html", "icon.svg"]) writeFileSync(join(out, name), read(here, name));
const licences = packages.map((name) => {
  const { version, license } = JSON.parse(read(here, "node_modules", name, "package.json"));
  return `==== ${name} ${version} (${license})\n\n${read(here, "node_modules", name, "LICENSE").trim()}\n`;
});
licences.push(`==== what their files say\n\n${legal.join("\n\n")}\n`);
writeFileSync(join(out, "licences.txt"), licences.join("\n"));

// `sha256sum --check made-of` in ../assets says the same as a test of ovsns.
const hash = (file) => createHash("sha256").update(readFileSync(file)).digest("hex");
const made = ["icon.svg", "index.html", "licences.txt", "page.css", "page.js"];
const sources = readdirSync(here).filter((name) => name !== "node_modules").sort();
const lines = [
  ...made.map((name) => `${hash(join(out, name))}  ${name}`),
  ...sources.map((name) => `${hash(join(here, name))}  ../page/${name}`),
];
writeFileSync(join(out, "made-of"), `${lines.join("\n")}\n`);

if (check) {
  const differ = [...made, "made-of"].filter((name) => read(out, name) !== read(assets, name));
  rmSync(out, { recursive: true });
  if (differ.length > 0) {
    console.error(`../assets is not made of what is here: ${differ.join(", ")}; \`npm run make\` makes it`);
    process.exit(1);
  }
}
