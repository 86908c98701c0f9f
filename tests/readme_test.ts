// SPDX-License-Identifier: 0BSD

/** The pages against what they speak of; README.md above all. */

import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { listening, run, Script } from "../lib/parts/process.ts";
import { freePort, temporaryFolder } from "./machine.ts";
import {
  changed,
  CLIENT,
  expectUppercase,
  ROOT,
  SERVER,
  startClient,
} from "./pair.ts";

const readme = await Deno.readTextFile(join(ROOT, "README.md"));

/** The text under a heading. */
function section(heading: string): string {
  const [, text] = readme.split(`\n## ${heading}\n`);
  assert.ok(text !== undefined, `no section "${heading}"`);
  return text.split("\n## ")[0];
}

/** The blocks of TypeScript in a section. */
function blocks(heading: string): string[] {
  const fenced = section(heading).matchAll(/^```ts\n([^]*?)^```$/gm);
  return [...fenced].map(([, code]) => code!);
}

// --------------------------------------------------------------- the short pair

async function succeeds(command: string[]): Promise<void> {
  const { code, stdout, stderr } = await run(Script.command(command));
  assert.equal(code, 0, stdout + stderr);
}

Deno.test("README - the short pair keeps all promises, full text too", async (t) => {
  await using folder = await temporaryFolder();
  const paths = ["short_server.ts", "short_client.ts"]
    .map((name) => join(folder.path, name));
  const [server, client, ...more] = blocks("Which one to hand in");
  assert.deepEqual(more, []);
  await Deno.writeTextFile(paths[0], server!);
  await Deno.writeTextFile(paths[1], client!);
  for (const task of ["check", "lint"]) {
    await t.step(task, () => succeeds([Deno.execPath(), task, ...paths]));
  }

  const args = [`${freePort()}`];
  await using _server = await listening(Script.start(paths[0], { args }));
  await t.step("the server", () =>
    succeeds([
      ...[Deno.execPath(), "run", "--allow-net"],
      ...[join(ROOT, "lib", "conformance.ts"), "--strict", "--port", ...args],
    ]));
  await t.step("5 MB through both", async () => {
    const client = Script.start(paths[1], { args });
    await expectUppercase(client, "perché no? ß\n".repeat(350_000));
  });
});

// -------------------------------------------------------------------- README.md

Deno.test("README - the names that it gives the lecture's words are in both pairs", async () => {
  const scripts = await Deno.readTextFile(SERVER) +
    await Deno.readTextFile(CLIENT);
  const short = blocks("Which one to hand in").join("");
  const rows = section("The lecture, in the code").match(/^\|.*\|$/gm)!;
  const named = [...rows.join("\n").matchAll(/`([^`]+)`/g)]
    .flatMap(([, quoted]) => quoted!.match(/[A-Za-z]+(\.[a-z]\w*)*\b\(?/g)!);
  assert.ok(named.length >= 20, `${named.length} names`);
  for (const code of [scripts, short]) {
    const uncommented = code.replace(/\/\*[^]*?\*\/|\/\/ .*/g, "");
    for (const name of named) {
      const literal = name.replaceAll(".", "\\.").replace("(", "\\(");
      const pattern = new RegExp(
        `\\b${literal}${name.endsWith("(") ? "" : "\\b"}`,
      );
      assert.match(uncommented, pattern, `no ${name} in the code`);
    }
  }
});

Deno.test("README - without its text's stream it is an echo server", async () => {
  const pipe = ".pipeThrough(new UppercaseStream())";
  await using copy = await changed(
    SERVER,
    `bytesFrom(client)${pipe}`,
    "bytesFrom(client)",
  );
  const service = await Deno.readTextFile(copy.path);
  const short = service
    .replace(/\/\/ -+ the text's stream\n[^]*(?=\/\/ -+ who is connected)/, "");
  assert.doesNotMatch(short, /class UppercaseStream/);
  await Deno.writeTextFile(copy.path, short);
  await succeeds([Deno.execPath(), "check", copy.path]);

  await using server = await listening(
    Script.start(copy.path, { args: ["--port", "0"] }),
  );
  const text = "perché no?\n".repeat(100_000);
  const { stdout } = await run(startClient(server.address), text);
  assert.ok(stdout === text, "the echo is not the text");
});

// -------------------------------------------------------------------- all pages

/** All pages of the project, by their paths from its top folder. */
async function pages(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const folders = [ROOT];
  for (const folder of folders) {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      const path = join(folder, name);
      if (isDirectory && !name.startsWith(".")) folders.push(path);
      if (!name.endsWith(".md")) continue;
      found.set(relative(ROOT, path), await Deno.readTextFile(path));
    }
  }
  return found;
}

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

Deno.test("pages - their links into the project lead somewhere", async () => {
  for (const [page, text] of await pages()) {
    for (const [, link] of prose(text).matchAll(/\]\(([^)]+)\)/g)) {
      if (/^https:/.test(link!)) continue;
      const [path, anchor] = link!.split("#");
      const target = path === "" ? page : join(dirname(page), path!);
      const where = `${page}: ${link}`;
      await assert.doesNotReject(() => Deno.stat(join(ROOT, target)), where);
      if (anchor === undefined) continue;
      const linked = await Deno.readTextFile(join(ROOT, target));
      assert.ok(anchors(linked).includes(anchor), where);
    }
  }
});

Deno.test("pages - their tasks exist", async () => {
  const { tasks } = JSON.parse(
    await Deno.readTextFile(join(ROOT, "deno.json")),
  );
  for (const [page, text] of await pages()) {
    for (const [, name] of text.matchAll(/deno(?:@[0-9.]+)? task ([a-z]+)/g)) {
      assert.ok(name! in tasks, `${page}: no task ${name}`);
    }
  }
});
