// SPDX-License-Identifier: 0BSD

/**
 * Plays the main job once: starts the server, types a few lines into the
 * client, and prints what both terminals would show, and what watch.ts draws.
 *
 *     deno task demo
 *
 * @module
 */

import { setTimeout as pause } from "node:timers/promises";
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
  await using watch = Script.start(path("lib/watch.ts"), {
    args: ["--port", "0", "--to", `${port}`],
  });
  const args = ["--port", `${(await listening(watch)).port}`];
  await using client = Script.start(path("client.ts"), { args });

  let screen = "";
  for (const line of LINES) {
    const shown = client.stdout.length;
    await client.write(`${line}\n`);
    await client.stdoutMatch(new RegExp(`^[^]{${shown}}.*\n`));
    screen += `${line}\n${client.stdout.slice(shown)}`;
    await pause(800); // the next line takes its time to be typed
  }
  await client.closeInput();
  const { code, stdout } = await client.ending();
  await server.stdoutMatch(/ closed, .*\n/);
  const [, diagram] = await watch.stdoutMatch(/\n\n([^]* close\(\)\n)/);

  console.log(`Terminal 1: deno run --allow-net server.ts --port 0
${server.stdout}
Terminal 2: deno run --allow-net client.ts ${args.join(" ")}
${screen}
What went between them: deno task watch --port 0 --to ${port}
${diagram}`);
  const expected = LINES.map((line) => `${line}\n`.toUpperCase()).join("");
  if (stdout !== expected || code !== 0) {
    console.error("demo: the replies are not what was promised");
    Deno.exit(1);
  }
  console.log("All replies are right. Now try both commands in two terminals.");
}

if (import.meta.main) await main();
