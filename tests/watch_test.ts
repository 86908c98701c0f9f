// SPDX-License-Identifier: 0BSD

/** `lib/watch.ts` between programs that are not ours, and what it draws of them. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { listening, Script, type StartOptions } from "../lib/parts/process.ts";
import {
  type Address,
  exchange,
  readAll,
  reset,
  talk,
  within,
  writeAll,
} from "../lib/parts/tcp.ts";
import { freePort, has, TERMINAL } from "./machine.ts";
import { ROOT, startServer, UPPER } from "./pair.ts";
import { serveHere } from "./serve.ts";

const WATCH = join(ROOT, "lib", "watch.ts");
const windows = Deno.build.os === "windows";

interface Watch extends AsyncDisposable {
  script: Script;
  address: Address;
}

async function startWatch(
  to: Address,
  options: StartOptions = {},
): Promise<Watch> {
  const args = ["--port=0", `--to=${to.hostname}:${to.port}`];
  const script = Script.start(WATCH, { ...options, args });
  return {
    script,
    address: await listening(script),
    [Symbol.asyncDispose]: () => script[Symbol.asyncDispose](),
  };
}

/** 3 MB with line ends and accents. */
const TEXT = "perché no? ß 😀\r\nà\n".repeat(130_000);

/** A server that uppercases; it replies to what comes after the end of input. */
const PYTHON_SERVER = `
import socket
with socket.create_server(("127.0.0.1", 0)) as welcome:
    print("listening on 127.0.0.1:%d" % welcome.getsockname()[1], flush=True)
    client, _ = welcome.accept()
    text = b""
    while data := client.recv(65536): text += data
    client.sendall(text.decode().upper().encode())
    client.close()
`;

const PYTHON_CLIENT = `
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    while data := s.recv(4096):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
`;

const CLIENTS: ((port: string) => string[])[] = [
  (port) =>
    ["nc", ...(Deno.build.os === "darwin" ? [] : ["-N"]), "::1", port]
      .with(-2, "127.0.0.1"),
  (port) => ["python3", "-c", PYTHON_CLIENT, port],
];

for (const command of CLIENTS) {
  const [program] = command("0");
  Deno.test({
    name:
      `watch - 3 MB from ${program}, its end, and 3 MB from python3 after it`,
    ignore: !has(program!) || !has("python3"),
    async fn() {
      await using server = Script.command(["python3", "-c", PYTHON_SERVER]);
      await using watch = await startWatch(await listening(server));
      await using client = Script.command(command(`${watch.address.port}`));
      client.write(TEXT).then(() => client.closeInput()).catch(() => {});
      const { stdout } = await client.ending();
      assert.ok(stdout === TEXT.toUpperCase(), "bytes were lost or changed");
      await watch.script.stdoutMatch(
        /^#1 .* end of input +--- FIN: active close ----> *\n(#1 .* bytes .*\n)+#1 .* <-+ FIN -+ close\(\)$/m,
      );
    },
  });
}

Deno.test({
  name: "watch - the textbook's server in Java closes first",
  ignore: !has("java"),
  async fn() {
    const path = join(ROOT, "tests", "peers", "Textbook.java");
    await using server = Script.command(["java", path]);
    await using watch = await startWatch(await listening(server));
    assert.equal(await talk(watch.address, "ciao\n"), "CIAO\n");
    await watch.script.stdoutMatch(/ "CIAO\\n"$/m);
    assert.match(
      watch.script.stdout,
      /connect\(\) .* active open .* accept\(\)/,
    );
  },
});

Deno.test("watch - a client's reset is a reset for the server", async () => {
  const failed = Promise.withResolvers<unknown>();
  await using server = serveHere(async (socket) => {
    await socket.write(new TextEncoder().encode("hello\n"));
    await readAll(socket).catch(failed.resolve);
  });
  await using watch = await startWatch(server.address);
  await reset(watch.address, (_send, reply) => reply);
  const error = await within(10, failed.promise);
  assert.ok(error instanceof Deno.errors.ConnectionReset, `${error}`);
  await watch.script.stdoutMatch(/ reset +-+ RST -+>\n.* the client broke off/);
});

/** Resets with SO_LINGER; Deno's own sockets cannot. */
const PYTHON_RESETS = `
import socket, struct
with socket.create_server(("127.0.0.1", 0)) as welcome:
    print("listening on 127.0.0.1:%d" % welcome.getsockname()[1], flush=True)
    client, _ = welcome.accept()
    client.sendall(client.recv(100).decode().upper().encode())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
`;

Deno.test({
  name:
    "watch - a server's reset is a reset for the client, after the bytes before it (python3)",
  ignore: !has("python3"),
  async fn() {
    await using server = Script.command(["python3", "-c", PYTHON_RESETS]);
    await using watch = await startWatch(await listening(server));
    const command = ["python3", "-c", PYTHON_CLIENT, `${watch.address.port}`];
    await using client = Script.command(command);
    await client.write("è\n");
    await client.closeInput();
    const { stdout, stderr } = await client.ending();
    assert.equal(stdout, "È\n");
    assert.match(stderr, /ConnectionResetError/);
    await watch.script.stdoutMatch(
      / <-+ RST -+ reset\n.* the server broke off/,
    );
  },
});

Deno.test("watch - a client that never reads costs less than 10 MB, and the line says so", async () => {
  let sent = 0;
  await using server = serveHere(async (socket) => {
    await socket.read(new Uint8Array(9));
    while (sent < 100_000_000) {
      sent += await socket.write(new Uint8Array(65536));
    }
  });
  await using watch = await startWatch(server.address);
  using client = await Deno.connect(watch.address);
  await client.write(new TextEncoder().encode("a\n"));
  await watch.script.stdoutMatch(/ 3 s of silence: the client does not read; /);
  assert.ok(sent < 10_000_000, `the server could send ${sent} bytes`);
});

Deno.test("watch - two clients at once, each with its number and its bytes", async () => {
  await using server = await startServer();
  await using watch = await startWatch(server.address);
  using first = await Deno.connect(watch.address);
  await watch.script.stdoutMatch(/^#1 .*accept/m);
  const text = new TextEncoder().encode("perché no?\n".repeat(500_000));
  const reply = await exchange(watch.address, text);
  assert.ok(Buffer.compare(reply, UPPER) === 0, "bytes were lost or changed");
  await first.write(new TextEncoder().encode("è\n"));
  await first.closeWrite();
  assert.equal(new TextDecoder().decode(await readAll(first)), "È\n");
  await watch.script.stdoutMatch(/^#2 .* "PERCHÉ [^]*^#1 .* "È\\n"$/m);
});

/** What goes on, the server's reply to "ciao\n", what watch says, and more. */
const SILENCES: [
  name: string,
  reply: string,
  says: RegExp,
  more?: { end?: true; beside?: true },
][] = [
  [
    "a server that never closes",
    "CIAO\n",
    /the client has ended its input.* has sent 5 bytes and has not closed/,
    { end: true, beside: true },
  ],
  [
    "a client that does not end its input",
    "CIAO\n",
    /the server has sent 5 bytes, and waits; the client has neither sent more/,
    { beside: true },
  ],
  [
    "a server that does not answer",
    "",
    /answered nothing since\. The client has not ended its input/,
  ],
  [
    "a server that does not answer the second client",
    "",
    /answered nothing since\. Is it still busy with #1\?/,
    { beside: true },
  ],
];

for (const [name, reply, says, { end, beside } = {}] of SILENCES) {
  Deno.test(`watch - ${name}: a line says so, once`, async () => {
    const over = Promise.withResolvers<void>();
    await using server = serveHere(async (socket) => {
      await socket.read(new Uint8Array(9));
      await writeAll(socket, new TextEncoder().encode(reply));
      await over.promise;
    });
    using _ = { [Symbol.dispose]: over.resolve };
    await using watch = await startWatch(server.address);
    // A client that still thinks: nothing is said of it.
    using _thinks = beside ? await Deno.connect(watch.address) : null;
    using client = await Deno.connect(watch.address);
    await client.write(new TextEncoder().encode("ciao\n"));
    if (end) await client.closeWrite();
    await watch.script.stdoutMatch(/3 s of silence: /);
    await pause(3500); // no event ends this wait: a second line would come now
    const text = watch.script.stdout.replace(/\n {13}/g, " ");
    assert.match(text, says);
    assert.equal(text.match(/ silence: /g)!.length, 1, text);
  });
}

Deno.test("watch - no server: the client is let go, and the line says what to do", async () => {
  const port = freePort();
  await using watch = await startWatch({ hostname: "127.0.0.1", port });
  using client = await Deno.connect(watch.address);
  assert.equal((await readAll(client)).length, 0);
  await watch.script.stdoutMatch(
    new RegExp(`nothing listens on 127.0.0.1:${port}: start the server first`),
  );
});

Deno.test("watch - quotes what was sent; no line is wider than 80 columns", async () => {
  await using server = await startServer();
  await using watch = await startWatch(server.address);
  const texts: [sent: string | Uint8Array, shown: string][] = [
    ['ciao, "è"\t\\\r\n', '"CIAO, \\"È\\"\\t"...'],
    [Uint8Array.of(0x31, 0xff, 0x00, 0xc3), '"1\\xff\\x00\\xc3"'],
    ["😀".repeat(40), '"😀😀😀😀😀😀😀"...'],
    ["世界", '"世界"'],
    ["1234567890123456\n", '"12345678901234"...'],
  ];
  for (const [sent, shown] of texts) {
    const bytes = typeof sent === "string"
      ? new TextEncoder().encode(sent)
      : sent;
    await exchange(watch.address, bytes);
    const pattern = new RegExp(` ${RegExp.escape(shown)}\n`);
    await watch.script.stdoutMatch(pattern);
  }
  for (const line of watch.script.stdout.split("\n")) {
    const wide = line.match(/[😀世界]/gu)?.length ?? 0;
    assert.ok([...line].length + wide <= 80, line);
  }
  assert.ok(!watch.script.stdout.includes("\x1b"), "no colours in a pipe");
});

Deno.test({
  name: "watch - a picture that nobody reads stops nobody; Ctrl-C counts",
  ignore: windows,
  async fn() {
    await using server = await startServer();
    const shell =
      'exec 3<&0; exec "$@" > >(read -r; echo "$REPLY"; read -u 3; cat)';
    const wrapper = ["bash", "-c", shell, "bash"];
    await using watch = await startWatch(server.address, { wrapper });
    for (let client = 0; client < 500; client++) {
      const reply = await within(5, talk(watch.address, "è\n"));
      assert.equal(reply, "È\n", "watch waits for the picture's reader");
    }
    await watch.script.write("\n");
    await watch.script.stdoutMatch(/#2 /);
    assert.equal(await talk(watch.address, "è\n"), "È\n");
    await watch.script.stdoutMatch(/^[0-9,]+ lines lost$/m);
    watch.script.kill("SIGINT");
    const { code, stdout } = await watch.script.ending();
    assert.match(stdout, /^501 connections, 3,006 bytes$/m);
    assert.equal(code, 0);
  },
});

Deno.test({
  name: "watch - on a terminal each side has a colour, NO_COLOR none (python3)",
  ignore: windows || !has("python3"),
  async fn() {
    await using server = await startServer();
    for (const [NO_COLOR, colours] of [["", true], ["1", false]] as const) {
      const options = { wrapper: TERMINAL, env: { NO_COLOR } };
      const command = [Deno.execPath(), "run", "--allow-net", WATCH];
      await using script = Script.command(
        [...command, "--port=0", `--to=${server.address.port}`],
        options,
      );
      const [, port] = await script.stdoutMatch(/:([0-9]+)\r\n/);
      await talk({ hostname: "127.0.0.1", port: Number(port) }, "è\n");
      await script.stdoutMatch(/close\(\)/);
      assert.equal(script.stdout.includes("\x1b[36m"), colours);
      assert.equal(script.stdout.includes("\x1b[33m"), colours);
    }
  },
});

Deno.test("watch - wrong input: one line, exit code 2; a port in use: 1", async () => {
  const cases = [
    "--port=1e3",
    "--port=65536",
    "--to=",
    "--to=a:b",
    "--to=0",
    "--x",
  ];
  for (const wrong of [...cases, "--hostname=", "stray"]) {
    await using script = Script.start(WATCH, { args: [wrong] });
    const { code, stdout, stderr } = await script.ending();
    assert.match(stderr, /^watch: .*\n$/, wrong);
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" }, wrong);
  }
  await using server = await startServer();
  const args = [`--port=${server.address.port}`];
  await using script = Script.start(WATCH, { args });
  const { code, stdout, stderr } = await script.ending();
  assert.match(
    stderr,
    /^watch: cannot listen on 127\.0\.0\.1:[0-9]+: .*in use.*\n$/,
  );
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
});
