// SPDX-License-Identifier: 0BSD

/**
 * Plays the main job once: starts the server, types a few lines into the
 * client, and prints what both terminals would show.
 *
 *     deno task demo
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { listening, Script } from "./parts/process.ts";

const LINES = ["ciao, mondo", "perché no? così è più bello", "straße 😀 ok"];

function path(name: string): string {
  return fileURLToPath(new URL(`../${name}`, import.meta.url));
}

async function main(): Promise<void> {
  await using server = Script.start(path("server.ts"), {
    args: ["--port", "0"],
  });
  const { port } = await listening(server);
  await using client = Script.start(path("client.ts"), {
    args: ["--port", `${port}`],
  });

  let screen = "";
  for (const line of LINES) {
    const shown = client.stdout.length;
    await client.write(`${line}\n`);
    await client.stdoutMatch(new RegExp(`^[^]{${shown}}.*\n`));
    screen += `${line}\n${client.stdout.slice(shown)}`;
  }
  await client.closeInput();
  const { code, stdout } = await client.ending();
  await server.stdoutMatch(/ closed, .*\n/);
  server.kill(Deno.build.os === "windows" ? "SIGTERM" : "SIGINT");
  const log = (await server.ending()).stdout;

  console.log(`Terminal 1
----------
$ deno run --allow-net server.ts --port 0
${log}^C

Terminal 2: what was typed, and the reply below it
----------
$ deno run --allow-net client.ts --port ${port}
${screen}^D
`);
  const expected = LINES.map((line) => `${line}\n`.toUpperCase()).join("");
  if (stdout !== expected || code !== 0) {
    console.error("demo: the replies are not what was promised");
    Deno.exit(1);
  }
  console.log("All replies are right. Now try both commands in two terminals.");
}

if (import.meta.main) await main();
