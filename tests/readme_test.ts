// SPDX-License-Identifier: 0BSD

/** The pages against what they speak of; README.md above all. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { run, Script } from "../lib/parts/process.ts";
import { temporaryFolder } from "./machine.ts";
import { CLIENT, ROOT, SERVER, startClient, startServer } from "./pair.ts";

/** All pages of the project, by their folders from its top folder. */
const pages = new Map<string, string>();
for (const folder of ["", "lib", "tests", "tests/haproxy"]) {
  const file = join(ROOT, folder, "README.md");
  pages.set(folder, await Deno.readTextFile(file));
}

/** The text under a heading of README.md. */
function section(heading: string): string {
  return pages.get("")!.split(`\n## ${heading}\n`)[1].split("\n## ")[0];
}

/** The code of the short server, and of the short client. */
const [shortServer, shortClient] = await Promise.all(
  ["server.ts", "client.ts"].map((name) =>
    Deno.readTextFile(join(ROOT, "lib/short", name))
  ),
);

// -------------------------------------------------------------------- README.md

Deno.test("README - its only code stands in the short server, line by line", () => {
  const blocks = [...pages.get("")!.matchAll(/^```ts\n([^]*?)^```$/gm)];
  assert.equal(blocks.length, 1, "more code than the heart");
  const heart = blocks[0][1]!.replace(/^(?=.)/gm, "    "); // as in serve()
  assert.ok(shortServer.includes(heart), "the short server has other lines");
});

Deno.test("README - the names that it gives the lecture's words are in both pairs", async () => {
  const scripts = await Deno.readTextFile(SERVER) +
    await Deno.readTextFile(CLIENT);
  const rows = section("The lecture, in the code").match(/^\|.*\|$/gm)!;
  const named = [...rows.join("\n").matchAll(/`([^`]+)`/g)]
    .flatMap(([, quoted]) => quoted!.match(/[A-Za-z]+(\.[a-z]\w*)*\b\(?/g)!);
  assert.ok(named.length >= 15, `${named.length} names`);
  for (const code of [scripts, shortServer + shortClient]) {
    const uncommented = code.replace(/\/\*[^]*?\*\/|\/\/ .*/g, "");
    for (const name of named) {
      const end = name.endsWith("(") ? "" : "\\b";
      const pattern = new RegExp(`\\b${RegExp.escape(name)}${end}`);
      assert.match(uncommented, pattern, `no ${name} in the code`);
    }
  }
});

Deno.test("README - without its text's stream it is an echo server", async () => {
  const echo = (await Deno.readTextFile(SERVER))
    .replace(".pipeThrough(new UppercaseStream())", "")
    .replace(/\/\/ -+ the text's stream\n[^]*(?=\/\/ -+ who is connected)/, "");
  assert.doesNotMatch(echo, /(new|class) UppercaseStream/);
  await using folder = await temporaryFolder();
  const path = join(folder.path, "echo.ts");
  await Deno.writeTextFile(path, echo);
  const check = Script.command([Deno.execPath(), "check", path]);
  const { code, stderr } = await run(check);
  assert.equal(code, 0, stderr);

  await using server = await startServer([], {}, path);
  const text = "perché no?\n".repeat(100_000);
  const { stdout } = await run(startClient(server.address), text);
  assert.ok(stdout === text, "the echo is not the text");
});

// -------------------------------------------------------------------- all pages

/** A page without its blocks of code. */
function prose(page: string): string {
  return page.replace(/^ *```[^]*?^ *```$/gm, "");
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchors(page: string): string[] {
  return [...prose(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-")
  );
}

Deno.test("pages - their links into the project and their tasks exist", async () => {
  const file = join(ROOT, "deno.json");
  const { tasks } = JSON.parse(await Deno.readTextFile(file));
  for (const [folder, page] of pages) {
    for (const [, link] of prose(page).matchAll(/\]\((?!https:)([^)]+)\)/g)) {
      const [path, anchor] = link!.split("#");
      const target = join(ROOT, folder, path || "README.md");
      await Deno.stat(target); // or it throws, with its name
      if (anchor === undefined) continue;
      const linked = anchors(await Deno.readTextFile(target));
      assert.ok(linked.includes(anchor), `${folder}/README.md: ${link}`);
    }
    for (const [, name] of page.matchAll(/deno(?:@[0-9.]+)? task ([a-z]+)/g)) {
      assert.ok(name! in tasks, `${folder}/README.md: no task ${name}`);
    }
  }
});
