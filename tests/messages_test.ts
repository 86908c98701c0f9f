// SPDX-License-Identifier: 0BSD

/** What the scripts say when something is wrong. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import {
  type Ending,
  listening,
  Script,
  type StartOptions,
} from "../lib/parts/process.ts";
import { talk } from "../lib/parts/tcp.ts";
import { freePort, has, TERMINAL } from "./machine.ts";
import { CLIENT, SERVER, startServer } from "./pair.ts";

const root = dirname(SERVER);

/** The port that stands on the page for whichever is free. */
const PORT = "7000";

/** Starts a command of the page. */
type Start = (options?: StartOptions) => Script;

/** What happens around a command, by the name that the page has for it. */
const situations: Record<
  string,
  (start: Start, port: number) => Promise<Ending>
> = {
  async "another program has the port"(start, port) {
    await using _server = await startServer([], { port });
    return await alone(start);
  },

  async "the port needs the system's permission"(start) {
    const folder = await Deno.makeTempDir();
    await Deno.chmod(folder, 0o777);
    await Deno.copyFile(SERVER, join(folder, "server.ts"));
    const ending = await alone(() =>
      start({
        cwd: folder,
        wrapper: ["setpriv", "--reuid=65534", "--clear-groups"],
        env: { DENO_DIR: folder },
      })
    );
    await Deno.remove(folder, { recursive: true });
    return ending;
  },

  async "it gets no answer"(start, port) {
    // Its queue is full: the system drops what a client sends to be connected.
    const full = `
with socket.create_connection(server.getsockname()):
    sys.stdin.read()
`;
    await using _server = await startPython(port, full);
    await using script = start({ wrapper: TERMINAL });
    await script.stdoutMatch(/waiting for \S+\r\n/); // while it waits
    const { code, signal, stdout } = await script.ending();
    return { code, signal, stdout: "", stderr: stdout };
  },

  async "the server closes before the end of input"(start, port) {
    const closing = `
with server.accept()[0] as connection:
    connection.recv(4096)
`;
    await using _server = await startPython(port, closing);
    await using script = start();
    await script.write("hello\n");
    return await script.ending();
  },

  async "the connection breaks"(start, port) {
    const resetting = `
with server.accept()[0] as connection:
    connection.recv(4096)
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
`;
    await using _server = await startPython(port, resetting);
    await using script = start();
    await script.write("hello\n");
    return await script.ending();
  },

  async "the input is a folder"(start, port) {
    await using _server = await startServer([], { port });
    return await alone(start);
  },

  async "the disk is full"(start, port) {
    await using _server = await startServer([], { port });
    await using script = start();
    await script.write("hello\n");
    return await script.ending();
  },
};

async function alone(start: Start): Promise<Ending> {
  await using script = start();
  return await script.ending();
}

/** Starts a Python program that listens and then does what is said. */
async function startPython(port: number, then: string): Promise<Script> {
  const program = `
import socket, struct, sys
server = socket.create_server(("127.0.0.1", ${port}), backlog=0)
print("listening on 127.0.0.1:${port}")
${then}`;
  const script = Script.command(["python3", "-u", "-c", program]);
  await listening(script);
  return script;
}

/** What the page shows: a command, what happens around it, and what it says. */
interface Shown {
  happened: string;
  code: string;
  permissions: string[];
  script: string;
  args: string[];
  redirection: string;
  says: string;
}

/** All that the page shows. */
async function readPage(): Promise<Shown[]> {
  const page = await Deno.readTextFile(join(root, "tests", "README.md"));
  const [, fromHere] = page.split("\n## Messages\n");
  const [, shown] = fromHere!.split(/^```$/m);
  return shown!.trim().split("\n\n").map((text) => {
    const [, happened, code, permission, script, args, redirection, says] = text
      .match(
        /^# (.*): exit code (\d+)\n\$ deno run (--allow-net )?(\S+)([^<>\n]*)(.*)\n([^]*)$/,
      )!;
    return {
      happened: happened!,
      code: code!,
      permissions: permission === undefined ? [] : ["--allow-net"],
      script: script!,
      args: args!.trim().split(" ").filter((arg) => arg !== ""),
      redirection: redirection!,
      says: says!,
    };
  });
}

Deno.test({
  name: "messages - they are as tests/README.md shows them",
  // The system's words in some of them are those of Linux.
  ignore: Deno.build.os !== "linux" || !has("python3") || !has("bash"),
  async fn(t) {
    const page = await readPage();
    const told = page.map(({ happened }) => happened);
    for (const situation of Object.keys(situations)) {
      assert.ok(told.includes(situation), `${situation} is not on the page`);
    }
    for (const shown of page) {
      const { happened, permissions, script, args, redirection } = shown;
      await t.step({
        name: `${happened}: ${script} ${args.join(" ")}`,
        ignore: impossible[happened] ?? false,
        async fn() {
          const port = freePort();
          const wrapper = redirection === ""
            ? []
            : ["bash", "-c", `exec "$0" "$@" ${redirection}`];
          const start: Start = (options) =>
            Script.start(join(options?.cwd ?? root, script), {
              permissions,
              args: args.map((arg) => arg === PORT ? `${port}` : arg),
              wrapper,
              ...options,
            });
          const ending = await (situations[happened] ?? alone)(start, port);
          assert.equal(onPage(ending, port), shown.says);
          assert.equal(`${ending.code}`, shown.code);
          assert.equal(ending.stdout, "");
        },
      });
    }
  },
});

/** What a command said, as the page has it. */
function onPage({ stderr }: Ending, port: number): string {
  return stderr.trimEnd().replaceAll("\r\n", "\n").replaceAll(`${port}`, PORT)
    // Without a network the system has other words for it.
    .replace(/(?<=lookup address information: )[^;]*/, "...");
}

/** What cannot happen everywhere. */
const impossible: Record<string, boolean> = {
  "the port needs the system's permission": !has("setpriv") ||
    Deno.uid() !== 0 || unprivilegedPorts() <= 80,
};

/** The first port that anybody may listen on. */
function unprivilegedPorts(): number {
  try {
    const file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    return Number(Deno.readTextFileSync(file));
  } catch {
    return 0; // not on Linux
  }
}

Deno.test({
  name: "messages - without --allow-net a terminal is asked (python3)",
  ignore: Deno.build.os === "windows" || !has("python3"),
  async fn(t) {
    for (const path of [SERVER, CLIENT]) {
      await t.step(path, async () => {
        const command = [...TERMINAL, Deno.execPath(), "run", path];
        await using script = Script.command(command);
        await script.stdoutMatch(
          /requests net access to "127.0.0.1:6789"[^]*>/,
        );
        // Deno throws away what is typed until it is ready to read the answer.
        const typing = setInterval(
          () => script.write("n\n").catch(() => {}), // it has ended
          200,
        );
        const { code, stdout } = await script.ending();
        clearInterval(typing);
        assert.match(
          stdout,
          /: no permission for 127\.0\.0\.1:6789; run it with deno run --allow-net\r\n$/,
        );
        assert.equal(code, 1);
      });
    }
  },
});

Deno.test("messages - a wrong value is answered in one line", async (t) => {
  const port = (least: number, value: string) =>
    `--port must be a whole number from ${least} to 65535, not "${value}"`;
  const cases: [path: string, args: string[], message: string][] = [
    ...["1e3", "0x50", " 80", "", "-1", "65536", "6789.0"].flatMap((
      value,
    ): typeof cases => [
      [SERVER, [`--port=${value}`], port(0, value)],
      [CLIENT, [`--port=${value}`], port(1, value)],
    ]),
    [CLIENT, ["--port", "0"], port(1, "0")],
    [SERVER, ["--port", "-1"], "use '--port=-XYZ'"],
    [SERVER, ["-p"], "'-p, --port <value>' argument missing"],
    [SERVER, ["--max-connections", "0"], 'from 1 to 1000000, not "0"'],
    [SERVER, ["--max-per-address", "x"], 'from 0 to 1000000, not "x"'],
    [SERVER, ["--idle-timeout", "soon"], 'from 0 to 1000000, not "soon"'],
    [SERVER, ["--idle-timeout", "1.5"], 'from 0 to 1000000, not "1.5"'],
    [SERVER, ["--quiet=yes"], "'-q, --quiet' does not take an argument"],
    [SERVER, ["--hostname", ""], "--hostname must not be empty"],
    [CLIENT, ["--hostname", ""], "--hostname must not be empty"],
    [CLIENT, ["--quiet"], "'--quiet'"],
    [CLIENT, ["6789"], "'6789'"],
  ];
  for (const [path, args, message] of cases) {
    await t.step(`${path} ${args.join(" ")}`, async () => {
      await using script = Script.start(path, { args });
      const { code, stdout, stderr } = await script.ending();
      assert.ok(stderr.includes(message), stderr);
      assert.match(
        stderr,
        /^(server|client): [^\n]+ \(--help shows the options\)\n$/,
      );
      assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
    });
  }
});

Deno.test("messages - what only the system calls invalid is one line, too", {
  // A link-local address without its interface: EINVAL, a TypeError in Deno.
  ignore: Deno.build.os !== "linux",
}, async () => {
  for (const path of [SERVER, CLIENT]) {
    const args = ["--hostname", "fe80::1"];
    const { code, stderr } = await alone(() => Script.start(path, { args }));
    assert.match(stderr, /^(server|client): cannot [^\n]* --hostname[^\n]*\n$/);
    assert.equal(code, 1);
  }
});

Deno.test("messages - a mistake in a changed copy keeps its stack", async (t) => {
  const mistakes: [path: string, line: string, mistake: string][] = [
    [SERVER, "stopOnSignal(welcomeSocket)", "stopOnSignal(welcomeSockets)"],
    [CLIENT, "from.read(buffer)", "form.read(buffer)"],
    [CLIENT, "clientSocket.closeWrite()", "clientSocket.closeWrit()"],
  ];
  for (const [path, line, mistake] of mistakes) {
    await t.step(mistake, async () => {
      const folder = await Deno.makeTempDir();
      const copy = join(folder, "copy.ts");
      const text = await Deno.readTextFile(path);
      assert.ok(text.includes(line));
      await Deno.writeTextFile(copy, text.replace(line, mistake));
      await using server = await startServer();
      const port = path === SERVER ? 0 : server.address.port;
      await using script = Script.start(copy, { args: ["--port", `${port}`] });
      await script.closeInput();
      const { code, stderr } = await script.ending();
      assert.match(
        stderr,
        /(Reference|Type)Error: .* is not .*\n[^]*copy\.ts:\d/,
      );
      assert.equal(code, 1);
      await Deno.remove(folder, { recursive: true });
    });
  }

  await t.step("in what is done to the text", async () => {
    const folder = await Deno.makeTempDir();
    const copy = join(folder, "copy.ts");
    const text = await Deno.readTextFile(SERVER);
    await Deno.writeTextFile(
      copy,
      text.replace("reply = uppercase(end)", "reply = upercase(end)"),
    );
    await using script = Script.start(copy, { args: ["--port", "0"] });
    assert.equal(await talk(await listening(script), "hello\n"), "");
    await script.stdoutMatch(
      /closed, 6 bytes in, 0 bytes out, .*: ReferenceError: upercase is not defined\n +at .*copy\.ts:\d/,
    );
    await script[Symbol.asyncDispose]();
    await Deno.remove(folder, { recursive: true });
  });
});

Deno.test(
  "messages - a client that is refused elsewhere tells the server to open up",
  {
    ignore: Deno.build.os === "windows", // nobody can connect to 0.0.0.0 there
  },
  async () => {
    const args = ["--hostname", "0.0.0.0", "--port", `${freePort()}`];
    const { code, stderr } = await alone(() => Script.start(CLIENT, { args }));
    assert.match(stderr, /server\.ts --hostname 0\.0\.0\.0 --port \d+;/);
    assert.equal(code, 1);
  },
);
