// SPDX-License-Identifier: 0BSD

/**
 * tests/README.md says what happens without a part. Each is taken out of a copy here.
 * The copy still answers a line, and the test that holds what "Without this" says
 * goes red, for the reason that is named. (That it is green with the script as it
 * is, it shows itself.)
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { listening, run, Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { changed, CLIENT, ROOT, SERVER } from "./pair.ts";

const ROWS: [
  /** What is taken away, as the page has it: of `server.ts`, or of `client.ts` if it says so. */
  part: string,
  /** A text that is there just once. */
  before: string,
  /** What replaces it. */
  after: string,
  /** How the name of the test begins that goes red. */
  red: string,
  /** What this test says then. */
  says: RegExp,
  /** The program that it needs. */
  needs?: string,
][] = [
  [
    "the source: read(), not .readable",
    "= bytesFrom(client).pipe",
    "= connectionSocket.readable.pipe",
    "server - half a character before the end of input",
    /'41' !== '41c3'/,
  ],
  [
    "the source: the second buffer",
    "      [buffer, other] = [other, buffer];\n",
    "",
    "server - slow-reader",
    / from byte [0-9,]+ on /,
  ],
  [
    "the text's stream: a character that is cut",
    "input[length - 1] < 0xc0 ? length : length - 1",
    "length",
    "uppercase - every cut of a hard text",
    /a byte at a time/,
  ],
  [
    "serve() is not awaited",
    "    serve(connectionSocket);",
    "    await serve(connectionSocket);",
    "server - two-clients",
    /nothing, then silence for 3 s/,
  ],
  [
    "setNoDelay()",
    "    connectionSocket.setNoDelay();",
    "   ",
    "server, client - both send small packets at once",
    /a small packet may wait/,
    "strace",
  ],
  [
    "who is connected: acceptFailed()",
    "await acceptFailed(error);",
    "throw error;",
    "server - early-reset",
    /no connection for the next client/,
  ],
  [
    "who is connected: the limit of clients",
    "clients.size >= options.maxConnections",
    "false",
    "limits - more clients than --max-connections wait",
    /a third client came in/,
  ],
  [
    "whose turn it is",
    "return othersTurn();",
    "",
    "limits - clients that flood do not hold up the others",
    /a newcomer waited two seconds/,
    "python3",
  ],
  [
    "who has to go: the clock",
    "  watchQuietClients(options.idleTimeout);\n",
    "",
    "limits - a silent client is closed",
    /the silent client keeps its place/,
  ],
  [
    "how it stops: the signals",
    "  stopOnSignal(welcomeSocket);\n",
    "",
    "ends - after the first signal a transfer goes on",
    /a new client came in|reset by peer|os error/,
  ],
  [
    "the log: its queue",
    "  if (logLines.desiredSize! > 0) logLines.write(line);",
    "  if (true) console.log(line);",
    "ends - a log that nobody reads stops nobody",
    /the server waits for its log's reader/,
    "python3",
  ],
  [
    "client.ts: the half-close",
    "  await clientSocket.closeWrite();",
    " ",
    "client - standard input to the server",
    /its input has ended, and it has not/,
  ],
  [
    "client.ts: input after the server's end",
    "      if (serverClosed)",
    "      if (false)",
    "client - a line that is typed after the server has closed",
    /Input:\s+''/,
  ],
];

/** The table in tests/README.md: each part, and what happens without it. */
async function table(): Promise<[part: string, without: string][]> {
  const page = await Deno.readTextFile(join(ROOT, "tests", "README.md"));
  const [, here] = page.split("\n## What you may leave out\n");
  const [, , ...rows] = here!.split("\n## ")[0].match(/^\|.*\|$/gm)!;
  return rows.map((row) => {
    const [, part, without] = row.replaceAll("`", "").split(/ *\| */);
    return [part, without];
  });
}

const shown = await table();

Deno.test("pages - what you may leave out is what is taken away here", () => {
  assert.deepEqual(shown.map(([part]) => part), ROWS.map(([part]) => part));
});

for (const [part, before, after, red, says, needs] of ROWS) {
  const [, without] = shown.find(([shown]) => shown === part) ?? [];
  Deno.test({
    name: `without ${part}: ${without}`,
    ignore: Deno.build.os !== "linux" || needs !== undefined && !has(needs),
    async fn() {
      const isClient = part.startsWith("client.ts");
      const script = isClient ? CLIENT : SERVER;
      await using copy = await changed(script, before, after);
      const [server, client] = isClient
        ? [SERVER, copy.path]
        : [copy.path, CLIENT];

      await answersLine(server, client);
      const file = join(import.meta.dirname!, `${red.match(/^\w+/)}_test.ts`);
      const test = ["test", "-A", "--no-check", "--filter", red, file];
      const { stdout } = await run(
        Script.command([Deno.execPath(), ...test], {
          env: { SERVER_COPY: server, CLIENT_COPY: client },
        }),
      );
      assert.match(stdout, / 0 passed .* 1 failed /, stdout);
      assert.ok(says.test(stdout), `it is red for another reason:\n${stdout}`);
    },
  });
}

/** A line goes from a client to a server and back. */
async function answersLine(server: string, client: string): Promise<void> {
  await using serving = await listening(
    Script.start(server, { args: ["--port", "0"] }),
  );
  const args = ["--port", `${serving.address.port}`];
  await using asking = Script.start(client, { args });
  await asking.write("hello\n");
  await asking.stdoutMatch(/^HELLO\n$/);
}
