// SPDX-License-Identifier: 0BSD

/** What `--help` says, of all programs that people run. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { Script } from "../lib/parts/process.ts";
import { SERVER } from "./pair.ts";

Deno.test("--help fits a screen and names every option, examples at the end", async (t) => {
  const programs = [
    "server.ts",
    "client.ts",
    "lib/conformance.ts",
    "lib/load.ts",
  ];
  for (const program of programs) {
    await t.step(program, async () => {
      const path = join(dirname(SERVER), program);
      await using script = Script.start(path, { args: ["--help"] });
      const { code, stdout, stderr } = await script.ending();
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });

      const lines = stdout.trimEnd().split("\n");
      assert.ok(lines.length <= 24, `${lines.length} lines`);
      assert.deepEqual(lines.filter((line) => line.length > 80), []);

      const [help, examples] = stdout.split("\nExamples:\n");
      assert.match(examples!, new RegExp(`^(  deno run .* ${program}.*\\n)+$`));

      const source = await Deno.readTextFile(path);
      const exist = [...source.matchAll(/^ +"?([a-z-]+)"?: \{ type: "/gm)]
        .map(([, name]) => `--${name}`);
      const explained = help!.match(/(?<=^ {2}(?:-[a-z], )?)--[a-z-]+/gm);
      assert.deepEqual(explained, exist);
      for (const option of examples!.match(/--[a-z-]+/g)!) {
        assert.ok([...exist, "--allow-net"].includes(option), option);
      }

      // What an option does is said in one column, on as many lines as it takes.
      const columns = help!.match(/^ {2}(-.*? {2,}| {3,})(?=\S)/gm)!
        .map((before) => before.length);
      assert.equal(new Set(columns).size, 1, "not aligned");
    });
  }
});
