// SPDX-License-Identifier: 0BSD

/** The pages against what they speak of; README.md above all. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { listening, run, Script } from "../lib/parts/process.ts";
import { freePort, temporaryFolder } from "./machine.ts";
import { CLIENT, expectUppercase, ROOT, SERVER, startClient } from "./pair.ts";

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

/** The short server and the short client. */
const shortPair = [
  ...section("Which one to hand in").matchAll(/^```ts\n([^]*?)^```$/gm),
]
  .map(([, code]) => code!);

// --------------------------------------------------------------- the short pair

async function succeeds(command: string[]): Promise<void> {
  const { code, stdout, stderr } = await run(Script.command(command));
  assert.equal(code, 0, stdout + stderr);
}

Deno.test("README - the short pair keeps all promises, full text too", async () => {
  await using folder = await temporaryFolder();
  const paths = ["short_server.ts", "short_client.ts"]
    .map((name) => join(folder.path, name));
  for (const [which, code] of shortPair.entries()) {
    await Deno.writeTextFile(paths[which]!, code);
  }
  await succeeds([Deno.execPath(), "check", ...paths]);

  const port = `${freePort()}`;
  await using _server = await listening(
    Script.start(paths[0], { args: [port] }),
  );
  const checker = join(ROOT, "lib", "conformance.ts");
  const options = ["--strict", "--port", port];
  await succeeds([Deno.execPath(), "run", "--allow-net", checker, ...options]);
  const client = Script.start(paths[1], { args: [port] });
  await expectUppercase(client, "perché no? ß\n".repeat(350_000)); // 5 MB
});

// -------------------------------------------------------------------- README.md

Deno.test("README - the names that it gives the lecture's words are in both pairs", async () => {
  const scripts = await Deno.readTextFile(SERVER) +
    await Deno.readTextFile(CLIENT);
  const rows = section("The lecture, in the code").match(/^\|.*\|$/gm)!;
  const named = [...rows.join("\n").matchAll(/`([^`]+)`/g)]
    .flatMap(([, quoted]) => quoted!.match(/[A-Za-z]+(\.[a-z]\w*)*\b\(?/g)!);
  assert.ok(named.length >= 20, `${named.length} names`);
  for (const code of [scripts, shortPair.join("")]) {
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
  await succeeds([Deno.execPath(), "check", path]);

  await using server = await listening(
    Script.start(path, { args: ["--port", "0"] }),
  );
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
