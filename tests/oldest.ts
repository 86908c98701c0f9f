// SPDX-License-Identifier: 0BSD

/**
 * The pair's main job on a release of Deno that is too old for the tests: a few
 * lines, and the last reply after the half-close.
 *
 *     npx -y deno@1.46.0 run --allow-all tests/oldest.ts
 *
 * @module
 */

import assert from "node:assert/strict";
import { startClient, startServer } from "./pair.ts";

const text = "ciao, mondo\nperché no? 😀\n".repeat(10_000) + "ß, no line end";

await using server = await startServer();
await using client = startClient(server.address);
await client.write("one\n");
await client.stdoutMatch(/^ONE\n$/);
await client.write(text);
await client.closeInput();
const { code, stdout, stderr } = await client.ending();
assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
assert.ok(stdout === "ONE\n" + text.toUpperCase(), "a wrong reply");
console.log(`Deno ${Deno.version.deno}: the pair does its main job`);
