// SPDX-License-Identifier: 0BSD

/** The README against what it speaks of. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { CLIENT, SERVER, startClient } from "./pair.ts";

const root = dirname(SERVER);
const readme = await Deno.readTextFile(join(root, "README.md"));

/** The text under a heading. */
function section(heading: string): string {
  const [, text] = readme.split(`\n## ${heading}\n`);
  assert.ok(text !== undefined, `no section "${heading}"`);
  return text.split("\n## ")[0]!;
}

Deno.test("README - the names that it gives the lecture's words are in the code", async () => {
  const code = await Deno.readTextFile(SERVER) +
    await Deno.readTextFile(CLIENT);
  const [, diagram, tables] = section("The lecture, in the code").split("```");
  const inDiagram = diagram!.match(/[A-Za-z.]+\(|[a-z]+Socket\b/g)!
    .filter((name) => name !== "rgba(");
  const inTables = [...tables!.matchAll(/`([^`]+)`/g)]
    .flatMap(([, quoted]) => quoted!.match(/[A-Za-z]+(\.[a-z]\w*)*\b\(?/g)!)
    .filter((name) => !/^(server|client)\.ts$/.test(name));
  const named = [...inDiagram, ...inTables];
  assert.ok(named.length > 40, `${named.length} names`);
  const uncommented = code.replace(/\/\*[^]*?\*\/|\/\/ .*/g, "");
  for (const name of named) {
    const literal = name.replaceAll(".", "\\.").replace("(", "\\(");
    const pattern = new RegExp(
      `\\b${literal}${name.endsWith("(") ? "" : "\\b"}`,
    );
    assert.match(uncommented, pattern, `no ${name} in the code`);
  }
});

Deno.test("README - its other service, by its diff, does what is shown", async () => {
  const [, diff, , session] = section("Copy it").split("```");
  let service = await Deno.readTextFile(SERVER);
  const [, ...changes] = diff!.split(/^-/m);
  for (const change of changes) {
    const [before, ...after] = change.split("\n+");
    assert.equal(service.split(`\n${before}\n`).length, 2, before);
    // What is more than a line is a new function, at the end.
    const [line, ...more] = after.join("\n").split("\n");
    service = service.replace(before!, line!) + more.join("\n");
  }
  service = service
    .replace(/\/\/ -+ fast uppercase\n[^]*(?=\/\/ -+ options)/, "")
    .replace(/\/\*\* How many bytes at the end begin[^]*?\n\}\n/, "");

  const folder = await Deno.makeTempDir();
  const path = join(folder, "server.ts");
  await Deno.writeTextFile(path, service);
  {
    await using check = Script.command([Deno.execPath(), "check", path]);
    const { code, stderr } = await check.ending();
    assert.equal(code, 0, stderr);
  }

  await using server = Script.start(path, { args: ["--port", "0"] });
  const [, said, answered] = session!.match(
    /^\n\$ printf '(.*)' \| .*\n([^]*)$/,
  )!;
  await using client = startClient(await listening(server));
  await client.write(said!.replaceAll("\\n", "\n"));
  await client.closeInput();
  assert.equal((await client.ending()).stdout, answered!.trimEnd());
  await server[Symbol.asyncDispose]();
  await Deno.remove(folder, { recursive: true });
});

Deno.test("README - its option tables and --help name the same options", async () => {
  const [, server, client] = section("Options and exit codes")
    .split(/^\| `(?:server|client)\.ts` +\| default/m);
  for (const [table, path] of [[server!, SERVER], [client!, CLIENT]] as const) {
    const inTable = table.split("\n| exit code")[0]!.match(
      /--[a-z]+[a-z-]*(?=[ `])/g,
    );
    await using script = Script.start(path, { args: ["--help"] });
    const { stdout } = await script.ending();
    const inHelp = stdout.match(/(?<=^ {2}(?:-[a-z], )?)--[a-z-]+/gm);
    assert.deepEqual(inTable, inHelp, path);
  }
});

Deno.test("README - its links into the project lead somewhere", async () => {
  const links = [...readme.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link!);
  for (const link of links) {
    if (/^https:/.test(link)) continue;
    if (!link.startsWith("#")) await Deno.stat(join(root, link));
    else assert.match(readme, new RegExp(`^## ${link.slice(1)}$`, "im"), link);
  }
});

Deno.test("README - its tasks exist", async () => {
  const { tasks } = JSON.parse(
    await Deno.readTextFile(join(root, "deno.json")),
  );
  for (const [, name] of readme.matchAll(/deno(?:@2\.9\.6)? task ([a-z]+)/g)) {
    assert.ok(name! in tasks, `no task ${name}`);
  }
});

Deno.test("README - shows the HAProxy configuration that its test runs", async () => {
  const path = join(root, "tests", "haproxy.cfg");
  const configuration = await Deno.readTextFile(path);
  assert.ok(readme.includes("```\n" + configuration + "```\n"));
});
