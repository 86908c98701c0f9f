// SPDX-License-Identifier: 0BSD

/**
 * tests/README.md says what happens without a part. Each is taken out of a copy here.
 * The copy still answers a line, and the test that holds what "Without this" says
 * goes red, for the reason that is named.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { run, Script } from "../lib/parts/process.ts";
import { has, testSteps } from "./machine.ts";
import { changed, CLIENT, ROOT, SERVER, startServer } from "./pair.ts";

/**
 * What is taken away, as the page names it: a text that is there just once, what
 * replaces it, how the name of the test begins that goes red, what this test says
 * then, and the program that it needs.
 */
const PARTS: Record<
  string,
  [before: string, after: string, red: string, says: RegExp, needs?: string]
> = {
  "the source: read(), not .readable": [
    "= bytesFrom(client).pipe",
    "= connectionSocket.readable.pipe",
    "server - half a character before the end of input",
    /'41' !== '41c3'/,
  ],
  "the source: the second buffer": [
    "      [buffer, other] = [other, buffer];\n",
    "",
    "server - slow-reader",
    / from byte [0-9,]+ on /,
  ],
  "the text's stream: a character that is cut": [
    "input[length - 1] < 0xc0 ? length : length - 1",
    "length",
    "uppercase - every cut of a hard text",
    /a byte at a time/,
  ],
  "serve() is not awaited": [
    "    serve(connectionSocket);",
    "    await serve(connectionSocket);",
    "server - two-clients",
    /nothing, then silence for 3 s/,
  ],
  "setNoDelay()": [
    "    connectionSocket.setNoDelay();",
    "   ",
    "server, client - small packets go at once",
    /a small packet may wait/,
    "strace",
  ],
  "who is connected: acceptFailed()": [
    "await acceptFailed(error);",
    "throw error;",
    "server - early-reset",
    /nothing listens any more/,
  ],
  "who is connected: the limit of clients": [
    "clients.size >= options.maxConnections",
    "false",
    "limits - of 5,000 silent clients",
    /more clients came in/,
    "python3",
  ],
  "whose turn it is": [
    "if (count > SMALL_BUFFER) return othersTurn();",
    "",
    "limits - clients that flood do not hold up others",
    /a newcomer waited two seconds/,
    "python3",
  ],
  "who has to go: the clock": [
    "  watchQuietClients(options.idleTimeout);\n",
    "",
    "limits - a silent client is closed",
    /the silent client keeps its place/,
  ],
  "how it stops: the signals": [
    "  stopOnSignal(welcomeSocket);\n",
    "",
    "ends - after the first signal transfers go on",
    /a new client came in|reset by peer|Broken pipe/,
  ],
  "the log: its queue": [
    "  if (logLines.desiredSize! > 0) logLines.write(line);",
    "  if (true) console.log(line);",
    "ends - a log whose reader waits stops",
    /the server waits for its log's reader/,
  ],
  "client.ts: the half-close": [
    "  await clientSocket.closeWrite();",
    " ",
    "client - standard input to the server",
    /its input has ended, and it has not/,
  ],
  "client.ts: input after the server's end": [
    "      if (serverClosed)",
    "      if (false)",
    "client - a line typed after the server has closed",
    /Input:\s+''/,
  ],
};

const page = await Deno.readTextFile(join(ROOT, "tests", "README.md"));
const [, here] = page.split("\n## What you may leave out\n");
/** The rows of the page's table: each part, and what happens without it. */
const [, , ...shown] = here!.split("\n## ")[0].match(/^\|.*\|$/gm)!
  .map((row) => row.replaceAll("`", "").split(/ *\| */).slice(1, 3));

assert.deepEqual(shown.map(([part]) => part), Object.keys(PARTS));

testSteps(
  "what you may leave out: without a part happens what the page says",
  6,
  shown.map(([part, without]) => {
    const [, , , , needs] = PARTS[part];
    const ignore = Deno.build.os !== "linux" ||
      needs !== undefined && !has(needs);
    return { name: `${part}: ${without}`, ignore, fn: () => takeAway(part) };
  }),
);

/** Takes a part out of a copy, and sees that the copy answers, and the test goes red. */
async function takeAway(part: string): Promise<void> {
  const [before, after, red, says] = PARTS[part];
  const isClient = part.startsWith("client.ts");
  await using copy = await changed(isClient ? CLIENT : SERVER, before, after);
  const SERVER_COPY = isClient ? SERVER : copy.path;
  const CLIENT_COPY = isClient ? copy.path : CLIENT;

  // A line still goes from the client to the server and back.
  await using server = await startServer([], {}, SERVER_COPY);
  const args = [`--port=${server.address.port}`];
  await using client = Script.start(CLIENT_COPY, { args });
  await client.write("hello\n");
  await client.stdoutMatch(/^HELLO\n$/);

  const file = join(import.meta.dirname!, `${red.match(/^\w+/)}_test.ts`);
  const test = ["test", "-A", "--no-check", "--filter", red, file];
  const env = { SERVER_COPY, CLIENT_COPY };
  const { stdout } = await run(
    Script.command([Deno.execPath(), ...test], { env }),
  );
  assert.match(stdout, / 0 passed .* 1 failed /, stdout);
  assert.ok(says.test(stdout), `it is red for another reason:\n${stdout}`);
}
