// SPDX-License-Identifier: 0BSD

/**
 * No line is there for nothing: each part of the scripts is taken out of a copy.
 * The copy still answers a line, and the test that holds what "Without this" says
 * goes red with it. (That it is green with the script as it is, it shows itself.)
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { changed, CLIENT, ROOT, SERVER } from "./pair.ts";

/** A part of `server.ts`, or of `client.ts` if it says so. */
interface Row {
  /** What is taken away, as README.md has it. */
  part: string;
  /** A text that is there just once, and what replaces it. */
  edit: [before: string, after: string];
  /** How the name of the test begins that goes red. */
  red: string;
  /** The program that this test needs. */
  needs?: string;
}

const ROWS: Row[] = [
  {
    part: "the source: read(), not .readable",
    edit: ["= bytesFrom(client).pipe", "= connectionSocket.readable.pipe"],
    red: "server - half a character before the end of input",
  },
  {
    part: "the source: the second buffer",
    edit: ["      [buffer, other] = [other, buffer];\n", ""],
    red: "server - slow-reader",
  },
  {
    part: "the text's stream: a character that is cut",
    edit: ["input[length - 1] < 0xc0 ? length : length - 1", "length"],
    red: "uppercase - every cut of a hard text",
  },
  {
    part: "serve() is not awaited",
    edit: [
      "    serve(connectionSocket);",
      "    await serve(connectionSocket);",
    ],
    red: "server - two-clients",
  },
  {
    part: "setNoDelay()",
    edit: ["    connectionSocket.setNoDelay();", "   "],
    red: "server, client - both send small packets at once",
    needs: "strace",
  },
  {
    part: "who is connected: acceptFailed()",
    edit: ["await acceptFailed(error);", "throw error;"],
    red: "server - early-reset",
  },
  {
    part: "who is connected: the limit of clients",
    edit: ["clients.size >= options.maxConnections", "false"],
    red: "limits - more clients than --max-connections wait",
  },
  {
    part: "whose turn it is",
    edit: ["return othersTurn();", ""],
    red: "limits - clients that flood do not hold up the others",
    needs: "python3",
  },
  {
    part: "who has to go: the clock",
    edit: ["  watchQuietClients(options.idleTimeout);\n", ""],
    red: "limits - a silent client is closed",
  },
  {
    part: "how it stops: the signals",
    edit: ["  stopOnSignal(welcomeSocket);\n", ""],
    red: "ends - after the first signal a transfer goes on",
  },
  {
    part: "the log",
    edit: [
      "  if (logLines.desiredSize! > 0) logLines.write(line);",
      "  if (true) console.log(line);",
    ],
    red: "ends - a log that nobody reads stops nobody",
    needs: "python3",
  },
  {
    part: "options and messages: listen()",
    edit: [
      "    fail(`cannot listen",
      "    throw error;\n    fail(`cannot listen",
    ],
    red: "messages - what only the system refuses is one line",
  },
  {
    part: "client.ts: the half-close",
    edit: ["  await clientSocket.closeWrite();", " "],
    red: "client - standard input to the server",
  },
  {
    part: "client.ts: setNoDelay()",
    edit: ["    clientSocket.setNoDelay();", "   "],
    red: "server, client - both send small packets at once",
    needs: "strace",
  },
  {
    part: "client.ts: input after the server's end",
    edit: ["      if (serverClosed)", "      if (false)"],
    red: "client - a line that is typed after the server has closed",
  },
  {
    part: "client.ts: the empty write",
    edit: ["  await clientSocket.write(new Uint8Array(0));\n", ""],
    red: "client - a line that is typed while the server closes",
  },
];

/** The table in README.md: each part, and what happens without it. */
async function table(): Promise<[part: string, without: string][]> {
  const readme = await Deno.readTextFile(join(ROOT, "README.md"));
  const [, here] = readme.split("\n### What you may leave out\n");
  const [, , ...rows] = here!.split("\n## ")[0].match(/^\|.*\|$/gm)!;
  return rows.map((row) => {
    const [, part, without] = row.replaceAll("`", "").split(/ *\| */);
    return [part, without];
  });
}

const shown = await table();

Deno.test("README - what you may leave out is what is taken away here", () => {
  assert.deepEqual(shown.map(([part]) => part), ROWS.map(({ part }) => part));
});

/** A line goes from a client to a server and back. */
async function answersLine(server: string, client: string): Promise<void> {
  await using serving = Script.start(server, { args: ["--port", "0"] });
  const { port } = await listening(serving);
  await using asking = Script.start(client, { args: ["--port", `${port}`] });
  await asking.write("hello\n");
  await asking.stdoutMatch(/^HELLO\n$/);
}

for (const { part, edit, red, needs } of ROWS) {
  const [, without] = shown.find(([shown]) => shown === part) ?? [];
  Deno.test({
    name: `without ${part}: ${without}`,
    ignore: Deno.build.os !== "linux" || needs !== undefined && !has(needs),
    async fn() {
      const isClient = part.startsWith("client.ts");
      await using copy = await changed(isClient ? CLIENT : SERVER, ...edit);
      const server = isClient ? SERVER : copy.path;
      const client = isClient ? copy.path : CLIENT;
      await answersLine(server, client);

      const file = join(import.meta.dirname!, `${red.match(/^\w+/)}_test.ts`);
      const { success, stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["test", "-A", "--no-check", "--filter", red, file],
        env: { NO_COLOR: "1", SERVER_COPY: server, CLIENT_COPY: client },
      }).output();
      const output = new TextDecoder().decode(stdout);
      assert.match(output, / 0 passed .* 1 failed /, output);
      assert.ok(!success, "nothing went wrong without it: what is it for?");
    },
  });
}
