// SPDX-License-Identifier: 0BSD

/** What `--help` says, of all programs that people run. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { Script } from "../lib/parts/process.ts";
import { SERVER } from "./pair.ts";

const PROGRAMS = [
  "server.ts",
  "client.ts",
  "lib/conformance.ts",
  "lib/load.ts",
];

for (const program of PROGRAMS) {
  Deno.test(`${program} --help names the options that exist and no others`, async () => {
    const path = join(dirname(SERVER), program);
    await using script = Script.start(path, { args: ["--help"] });
    const { code, stdout, stderr } = await script.ending();
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });

    let source = await Deno.readTextFile(path);
    if (program.startsWith("lib/")) { // all programs of lib/ have these, too
      source += await Deno.readTextFile(
        join(dirname(path), "parts/options.ts"),
      );
    }
    const exist = [...source.matchAll(/^ +"?([a-z-]+)"?: \{ type: "/gm)]
      .map(([, name]) => `--${name}`);
    const named = new Set(stdout.match(/--[a-z-]+/g));
    named.delete("--allow-net"); // an option of deno itself, in the examples
    assert.deepEqual([...named].sort(), exist.sort());
  });
}
