// SPDX-License-Identifier: 0BSD

/** What the scripts say when something is wrong. */

import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import {
  type Exit,
  listening,
  run,
  Script,
  type StartOptions,
} from "../lib/parts/process.ts";
import { freePort, has, TERMINAL } from "./machine.ts";
import { changed, CLIENT, ROOT, SERVER, startServer } from "./pair.ts";
import { talk } from "./sockets.ts";

// --------------------------------------------- the messages in tests/README.md

/** The port that stands on the page for whichever is free. */
const PORT = "7000";

/** What happens around a command, by the name that the page has for it. */
const around: Record<string, (port: number) => Promise<AsyncDisposable>> = {
  "another program has the port": rightServer,
  "the input is a folder": rightServer,
  "the disk is full": rightServer,

  // Its queue is full: the system drops what a client sends to be connected.
  "it gets no answer": python(`
with socket.create_connection(server.getsockname()):
    sys.stdin.read()
`),

  "the server closes before the end of input": python(`
with server.accept()[0] as connection:
    connection.recv(4096)
`),

  "the connection breaks": python(`
with server.accept()[0] as connection:
    connection.recv(4096)
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
`),
};

const NO_PERMISSION = "the port needs the system's permission";

/** How a command is started, where that matters. */
const wrappers: Record<string, string[]> = {
  [NO_PERMISSION]: ["setpriv", "--bounding-set=-net_bind_service"],
};

/** Whether this is root, and anybody else may not listen on port 80. */
function canLackPermission(): boolean {
  const file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  return has("setpriv") && Deno.uid() === 0 &&
    Number(Deno.readTextFileSync(file)) > 80;
}

function rightServer(port: number): Promise<AsyncDisposable> {
  return startServer([], { port });
}

/** A Python program that listens and then does what is said. */
function python(then: string): (port: number) => Promise<AsyncDisposable> {
  return (port) => {
    const program = `
import socket, struct, sys
server = socket.create_server(("127.0.0.1", ${port}), backlog=0)
print("listening on 127.0.0.1:${port}")
${then}`;
    return listening(Script.command(["python3", "-u", "-c", program]));
  };
}

/** What the page shows: a command, what happens around it, and what it says. */
const SHOWN =
  /^# (?<happened>.*): exit code (?<code>\d+)\n\$ deno run (?<permission>--allow-net )?(?<script>\S+)(?<args>[^<>\n]*)(?<redirection>.*)\n(?<says>[^]*)$/;

Deno.test({
  name: "messages - they are as tests/README.md shows them",
  // The system's words in some of them are those of Linux.
  ignore: Deno.build.os !== "linux" || !has("python3") || !has("bash"),
  async fn(t) {
    const page = await Deno.readTextFile(join(ROOT, "tests", "README.md"));
    const [, fromHere] = page.split("\n## Messages\n");
    const [, block] = fromHere!.split(/^```$/m);
    const all = block!.trim().split("\n\n").map((shown) =>
      shown.match(SHOWN)!.groups as Record<string, string>
    );
    for (const situation of Object.keys({ ...around, ...wrappers })) {
      const isShown = all.some(({ happened }) => happened === situation);
      assert.ok(isShown, `${situation} is not on the page`);
    }
    for (const shown of all) {
      const happened = shown.happened!;
      await t.step({
        name: `${happened}: ${shown.script}${shown.args}`,
        ignore: happened === NO_PERMISSION && !canLackPermission(),
        async fn() {
          const port = freePort();
          await using _around = await around[happened]?.(port);
          const command = `exec "$@" ${shown.redirection}`;
          const { code, stdout, stderr } = await say(shown.script!, {
            permissions: shown.permission ? ["--allow-net"] : [],
            args: shown.args!.replace(PORT, `${port}`).match(/\S+/g) ?? [],
            wrapper: [
              ...wrappers[happened] ?? [],
              ...["bash", "-c", command, "bash"],
            ],
          });
          const said = (stdout + stderr).trimEnd()
            .replaceAll(`${port}`, PORT)
            // Without a network the system has other words for it.
            .replace(/(?<=lookup address information: )[^;]*/, "...");
          assert.equal(said, shown.says);
          assert.equal(`${code}`, shown.code);
        },
      });
    }
  },
});

/** Runs a script, which is given a line and no end of input. */
function say(script: string, options: StartOptions): Promise<Exit> {
  const path = join(ROOT, script);
  return run(Script.start(path, options), "hello\n", { open: true });
}

// --------------------------------------------------------------- other mistakes

Deno.test("messages - what only the system refuses is one line, too", {
  ignore: Deno.build.os !== "linux" || !has("bash"),
}, async () => {
  const mistakes = [
    // A link-local address without its interface: EINVAL, a TypeError in Deno.
    ["--hostname", "fe80::1"],
    ["--hostname", "two\nlines"],
    ["--help"], // to a full disk
  ];
  const wrapper = ["bash", "-c", 'exec "$0" "$@" >/dev/full'];
  for (const path of [SERVER, CLIENT]) {
    for (const args of mistakes) {
      const { code, stderr } = await run(Script.start(path, { wrapper, args }));
      assert.match(stderr, /^(server|client): [^\n]*\n$/);
      assert.notEqual(code, 0);
    }
  }
});

// -------------------------------------------------------------- Deno's question

/** Runs a script on a terminal without --allow-net, for Deno to ask. */
function startOnTerminal(path: string, args: string[] = []): Script {
  return Script.command([...TERMINAL, Deno.execPath(), "run", path, ...args]);
}

/** Types an answer until a match, as Deno throws away what is typed too early. */
async function answer(
  script: Script,
  letter: string,
  pattern: RegExp,
): Promise<void> {
  const typing = setInterval(
    () => script.write(`${letter}\n`).catch(() => {}), // it has ended
    200,
  );
  try {
    await script.stdoutMatch(pattern);
  } finally {
    clearInterval(typing);
  }
}

Deno.test({
  name: "messages - without --allow-net a terminal is asked (python3)",
  ignore: Deno.build.os === "windows" || !has("python3"),
  async fn(t) {
    for (const path of [SERVER, CLIENT]) {
      await t.step(`${basename(path)}, the answer is no`, async () => {
        await using script = startOnTerminal(path);
        await script.stdoutMatch(/requests net access to "127.0.0.1:6789"/);
        await answer(
          script,
          "n",
          /: cannot (listen on|reach) 127\.0\.0\.1:6789: .*--allow-net.*\r\n$/,
        );
        assert.equal((await script.exit()).code, 1);
      });
    }

    await t.step("the client's time limit does not run meanwhile", async () => {
      await using copy = await changed(CLIENT, "10_000", "1_000");
      await using server = await startServer();
      const args = ["--port", `${server.address.port}`];
      await using script = startOnTerminal(copy.path, args);
      await script.stdoutMatch(/requests net access/);
      await pause(1500); // and it would be over
      await answer(script, "y", / is connected to /);
    });
  },
});

// -------------------------------------------------------------- a changed copy

Deno.test("messages - a mistake in a changed copy keeps its stack", async (t) => {
  await t.step("server.ts", async () => {
    await using copy = await changed(
      SERVER,
      "  stopOnSignal(welcomeS",
      "  stopSignal(welcomeS",
    );
    const script = Script.start(copy.path, { args: ["--port=0"] });
    const { code, stderr } = await run(script);
    assert.match(stderr, /stopSignal is not defined\n[^]*server\.ts:\d/);
    assert.equal(code, 1);
  });

  await t.step("server.ts, in what is done to the text", async () => {
    await using copy = await changed(SERVER, "= uppercase(", "= upercase(");
    const script = Script.start(copy.path, { args: ["--port=0"] });
    await using server = await listening(script);
    assert.equal(await talk(server.address, "hello\n"), "");
    await script.stdoutMatch(
      /closed, 6 bytes in, 0 bytes out, .*: upercase is not defined\n/,
    );
  });

  await t.step("client.ts", async () => {
    await using copy = await changed(CLIENT, "stdin.read(", "stdin.raed(");
    await using server = await startServer();
    const args = ["--port", `${server.address.port}`];
    const { code, stderr } = await run(Script.start(copy.path, { args }));
    assert.match(stderr, /stdin\.raed is not a function\n[^]*client\.ts:\d/);
    assert.equal(code, 1);
  });
});
