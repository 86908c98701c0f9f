// SPDX-License-Identifier: 0BSD

/** The server as a process: what a client, an operator and a log reader see. */

import assert from "node:assert/strict";
import { exchange, readAll, Script, talk, writeAll } from "../lib/process.ts";
import {
  ask,
  denoSince,
  has,
  memory,
  resets,
  SERVER,
  startServer,
} from "./pair.ts";

const text = new TextEncoder().encode("perché no? ".repeat(500_000));
const upper = new TextEncoder().encode("PERCHÉ NO? ".repeat(500_000));

Deno.test("server - its first line names the address and the real port", async () => {
  await using server = await startServer();
  assert.match(
    server.script.stdout,
    /^listening on 127\.0\.0\.1:[1-9][0-9]*\n$/,
  );
});

Deno.test("server - listens on IPv4, IPv6 and names", async (t) => {
  const cases: [hostname: string, shown: RegExp, connectTo: string][] = [
    ["0.0.0.0", /^listening on 0\.0\.0\.0:\d+$/m, "127.0.0.1"],
    ["localhost", /^listening on (127\.0\.0\.1|\[::1\]):\d+$/m, "localhost"],
  ];
  if (hasIPv6()) {
    cases.push(
      ["::1", /^listening on \[::1\]:\d+$/m, "::1"],
      ["[::1]", /^listening on \[::1\]:\d+$/m, "::1"],
      ["::", /^listening on \[::\]:\d+$/m, "::1"],
    );
  }
  for (const [hostname, shown, connectTo] of cases) {
    await t.step(hostname, async () => {
      await using server = await startServer(["--hostname", hostname]);
      assert.match(server.script.stdout, shown);
      const address = { hostname: connectTo, port: server.address.port };
      assert.equal(await talk(address, "ciao\n"), "CIAO\n");
    });
  }
});

function hasIPv6(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

Deno.test("server - the log has a line when a client comes and one when it goes", async () => {
  await using server = await startServer();
  using connection = await Deno.connect(server.address);
  assert.equal(await ask(connection, "ß\n"), "SS\n");
  const { hostname, port } = connection.localAddr as Deno.NetAddr;
  await connection.closeWrite();
  await readAll(connection);
  await server.script.stdoutMatch(/closed.*\n/);
  const [, came, went, ...more] = server.script.stdout.split("\n");
  assert.equal(came, `${hostname}:${port} connected, 1 open`);
  assert.match(
    went!,
    new RegExp(
      `^${hostname}:${port} closed, 3 bytes in, 3 bytes out, \\d+\\.\\d s$`,
    ),
  );
  assert.deepEqual(more, [""], "a client cost more than two lines");
});

Deno.test("server - every byte of the reply comes after the end of input, to slow readers", async () => {
  await using server = await startServer();
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 4 }, async () => {
      using connection = await Deno.connect(server.address);
      const [reply] = await Promise.all([
        readSlowly(connection),
        writeAll(connection, text).then(() => connection.closeWrite()),
      ]);
      assert.equal(reply, upper.length, "bytes of the reply were lost");
    }));
  }
});

/** Reads in small pieces, each a turn later, and checks them. */
async function readSlowly(connection: Deno.Conn): Promise<number> {
  const buffer = new Uint8Array(8192);
  let total = 0;
  while (true) {
    const count = await connection.read(buffer);
    if (count === null) return total;
    for (let at = 0; at < count; at++) {
      if (buffer[at] !== upper[total + at]) throw new Error("a wrong byte");
    }
    total += count;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

Deno.test("server - 200 clients at once, each with its own replies", async () => {
  await using server = await startServer();
  await Promise.all(Array.from({ length: 200 }, async (_, number) => {
    using connection = await Deno.connect(server.address);
    for (let line = 0; line < 20; line++) {
      const reply = await ask(connection, `client ${number}, line ${line} è\n`);
      assert.equal(reply, `CLIENT ${number}, LINE ${line} È\n`);
    }
  }));
});

Deno.test({
  name: "server - hundreds of clients reset before they are accepted (python3)",
  ignore: !has("python3"),
  async fn() {
    await using server = await startServer();
    await Promise.all(
      [1, 2, 3].map(() => resets(server.address, 300, "at once")),
    );
    assert.equal(await talk(server.address, "still here\n"), "STILL HERE\n");
    assert.equal(server.script.stderr, "");
  },
});

Deno.test({
  name:
    "server - a reset in a transfer is that client's, and one line (python3)",
  ignore: !has("python3"),
  async fn() {
    await using server = await startServer(["--quiet"]);
    using other = await Deno.connect(server.address);
    await ask(other, "hello\n");
    await resets(server.address, 20, "in a transfer");
    assert.equal(await ask(other, "hello again\n"), "HELLO AGAIN\n");
    // The first line, which --quiet leaves, and one for each.
    const lines = await server.script.stdoutMatch(/^(.*\n){21}/);
    const resetLines = lines[0].match(/closed, .* s: reset by the client\n/g);
    assert.equal(resetLines?.length, 20, server.script.stdout);
    assert.equal(server.script.stderr, "");
  },
});

Deno.test({
  name: "server - a small reply does not wait for the one before it (strace)",
  // Before 2.5 Deno panics when its child is traced.
  ignore: !has("strace") || !denoSince("2.5.0"),
  async fn() {
    // Without TCP_NODELAY it waits for the client's delayed acknowledgement:
    // 44 ms on Linux.
    const trace = await Deno.makeTempFile();
    const wrapper = [
      "strace",
      "-D",
      "-f",
      "-e",
      "trace=setsockopt",
      "-o",
      trace,
    ];
    {
      await using server = await startServer([], { wrapper });
      assert.equal(await talk(server.address, "ciao\n"), "CIAO\n");
    }
    assert.match(await Deno.readTextFile(trace), /TCP_NODELAY, \[1\]/);
    await Deno.remove(trace);
  },
});

Deno.test({
  name:
    "server - a client that never reads costs a few buffers, and its place at last",
  // Before 2.9.5 close() does not end a write that waits for the other side:
  // https://github.com/denoland/deno/pull/36369
  ignore: Deno.build.os !== "linux" || !denoSince("2.9.5"),
  async fn() {
    await using server = await startServer(["--idle-timeout", "1"]);
    await exchange(server.address, text); // as much as a busy client costs
    const before = memory(server.script.pid, "VmRSS");
    using connection = await Deno.connect(server.address);
    let sent = 0;
    await assert.rejects(async () => {
      while (true) sent += await connection.write(text); // until it is closed
    });
    assert.ok(sent < 64e6, `the server took ${sent} bytes and gave none`);
    const cost = memory(server.script.pid, "VmHWM") - before;
    assert.ok(cost < 32e6, `the server kept ${cost} bytes for it`);
    await server.script.stdoutMatch(/closed, .*: idle for 1 s\n/);
    assert.equal(await talk(server.address, "next\n"), "NEXT\n");
  },
});

Deno.test("server - a silent client is closed, a talking one is not", async () => {
  await using server = await startServer(["--idle-timeout", "1"]);
  using talking = await Deno.connect(server.address);
  using silent = await Deno.connect(server.address);
  let closed = false;
  const end = readAll(silent).then(() => closed = true);
  while (!closed) {
    assert.equal(await ask(talking, "still here\n"), "STILL HERE\n");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await end;
  assert.equal(await ask(talking, "and now\n"), "AND NOW\n");
  await server.script.stdoutMatch(/closed, 0 bytes in, .*: idle for 1 s\n/);
});

Deno.test("server - more clients than --max-connections wait for a place", async () => {
  await using server = await startServer(["--max-connections", "2"]);
  using first = await Deno.connect(server.address);
  using second = await Deno.connect(server.address);
  await ask(first, "one\n");
  await ask(second, "two\n");
  const more = Promise.all(
    [1, 2, 3].map((number) => talk(server.address, `${number}\n`)),
  );
  more.catch(() => {}); // told where it is awaited
  await server.script.stdoutMatch(/more wait for a place\n/);
  for (let line = 0; line < 100; line++) await ask(first, "busy\n");
  assert.equal(server.script.stdout.match(/ connected, /g)?.length, 2);
  first.close();
  assert.deepEqual(await more, ["1\n", "2\n", "3\n"]);
  const said = server.script.stdout.match(/2 clients connected: more wait/g);
  assert.equal(said?.length, 1, server.script.stdout);
});

Deno.test({
  name:
    "server - out of descriptors it waits, says so once, and goes on (prlimit)",
  ignore: !has("prlimit"),
  async fn() {
    const wrapper = ["prlimit", "--nofile=64"];
    await using server = await startServer(["--idle-timeout", "1"], {
      wrapper,
    });
    const open = await Promise.all(
      Array.from({ length: 80 }, () => Deno.connect(server.address)),
    );
    await server.script.stdoutMatch(/cannot accept, trying again: .*\n/);
    await readAll(open[0]!); // idle for a second, and that is many tries
    // The last ones have come in by now, or do as places become free.
    assert.equal(await ask(open.at(-1)!, "hello\n"), "HELLO\n");
    open.forEach((connection) => connection.close());
    assert.equal(await talk(server.address, "after\n"), "AFTER\n");
    const said = server.script.stdout.match(/cannot accept/g);
    assert.equal(said?.length, 1, server.script.stdout);
    assert.doesNotMatch(server.script.stderr, /^error|^server/m);
  },
});

Deno.test("server - the first signal ends it with exit code 0", async (t) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    await t.step(`${signal}, no client`, async () => {
      await using server = await startServer();
      server.script.kill(signal);
      const { code, stderr } = await server.script.ending();
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    });
  }

  await t.step("an idle client is closed", async () => {
    await using server = await startServer();
    using idle = await Deno.connect(server.address);
    await ask(idle, "hello\n");
    server.script.kill("SIGINT");
    assert.equal((await readAll(idle)).length, 0);
    const { code, stdout } = await server.script.ending();
    assert.equal(code, 0);
    assert.match(
      stdout,
      /stopping, 1 open\n.*closed, .*: the server is stopping\n$/,
    );
  });

  await t.step(
    "a transfer in progress ends, to a reader that pauses too",
    async () => {
      await using server = await startServer();
      using idle = await Deno.connect(server.address);
      await ask(idle, "hello\n");
      using busy = await Deno.connect(server.address);
      const sending = writeAll(busy, text).then(() => busy.closeWrite());
      await busy.read(new Uint8Array(1));
      server.script.kill("SIGTERM");
      await readAll(idle); // closed: half a second has passed
      const [rest] = await Promise.all([readAll(busy), sending]);
      assert.equal(
        1 + rest.length,
        upper.length,
        "bytes of the reply were lost",
      );
      assert.equal((await server.script.ending()).code, 0);
    },
  );

  await t.step("nobody new comes in", async () => {
    await using server = await startServer();
    using busy = await Deno.connect(server.address);
    await ask(busy, "hello\n");
    server.script.kill("SIGTERM");
    await server.script.stdoutMatch(/stopping/);
    await assert.rejects(
      () => Deno.connect(server.address),
      Deno.errors.ConnectionRefused,
    );
  });
});

Deno.test("server - the second signal drops everything, exit code 130", async () => {
  await using server = await startServer();
  using busy = await Deno.connect(server.address);
  const sending = writeAll(busy, text).catch(() => {});
  await busy.read(new Uint8Array(1)); // and no more: the transfer is stuck
  server.script.kill("SIGINT");
  await server.script.stdoutMatch(/stopping/);
  server.script.kill("SIGINT");
  const { code, stderr } = await server.script.ending();
  assert.deepEqual({ code, stderr }, { code: 130, stderr: "" });
  await readAll(busy).catch(() => {});
  await sending;
});

Deno.test({
  name: "server - a log that nobody reads stops nobody",
  ignore: !has("mkfifo"),
  async fn(t) {
    for (const end of ["blocked", "closed"]) {
      await t.step(end, async () => {
        const folder = await Deno.makeTempDir();
        const pipe = `${folder}/log`;
        await new Deno.Command("mkfifo", { args: [pipe] }).output();
        const shell = ["bash", "-c", 'exec "$@" >"$0"', pipe];
        await using script = Script.start(SERVER, {
          wrapper: shell,
          args: ["--port", "0"],
        });
        const log = await Deno.open(pipe);
        const buffer = new Uint8Array(4096);
        const count = await log.read(buffer);
        const line = new TextDecoder().decode(buffer.subarray(0, count!));
        const port = Number(line.match(/:(\d+)\n/)![1]);
        if (end === "closed") log.close();
        // Two lines each: far more than a pipe holds (64 KiB on Linux).
        for (let client = 0; client < 2500; client++) {
          const reply = await talk({ hostname: "127.0.0.1", port }, "a\n");
          assert.equal(reply, "A\n");
        }
        script.kill();
        const { code, stderr } = await script.ending();
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
        if (end === "blocked") log.close();
        await Deno.remove(folder, { recursive: true });
      });
    }
  },
});

Deno.test("server - a wrong input is answered in one line", async (t) => {
  await using taken = await startServer();
  const { port } = taken.address;
  const cases: [args: string[], code: number, message: RegExp][] = [
    [["--port", "1e3"], 2, /--port .* 0 to 65535, not "1e3"/],
    [["--port", "0x50"], 2, /--port .* 0 to 65535, not "0x50"/],
    [["--port", " 80"], 2, /--port .* 0 to 65535, not " 80"/],
    [["--port", ""], 2, /--port .* 0 to 65535, not ""/],
    [["--port=-1"], 2, /--port .* 0 to 65535, not "-1"/],
    [["--port", "-1"], 2, /'--port' .*'--port=-XYZ'/],
    [["--port", "65536"], 2, /--port .* 0 to 65535, not "65536"/],
    [["--port", "6789.0"], 2, /--port .* 0 to 65535, not "6789.0"/],
    [["-p"], 2, /-p, --port <value>.* missing/],
    [["--max-connections", "0"], 2, /--max-connections .* from 1 .* not "0"/],
    [["--idle-timeout", "soon"], 2, /--idle-timeout .* from 0 .* not "soon"/],
    [["--idle-timeout", "1.5"], 2, /--idle-timeout .* from 0 .* not "1.5"/],
    [["--hostname", ""], 2, /--hostname must not be empty/],
    [["--prot", "80"], 2, /'--prot'/],
    [["6789"], 2, /'6789'/],
    [["--quiet=yes"], 2, /'-q, --quiet' does not take an argument/],
    [
      ["--port", `${port}`],
      1,
      new RegExp(`127.0.0.1:${port} is in use.*--port`),
    ],
    [
      ["--hostname", "192.0.2.1"],
      1,
      /192\.0\.2\.1:6789.*address of this machine/,
    ],
    [
      ["--hostname", "no.invalid"],
      1,
      /no\.invalid:6789.*address of this machine/,
    ],
  ];
  for (const [args, code, message] of cases) {
    await t.step(args.join(" ") || "none", async () => {
      await using script = Script.start(SERVER, { args });
      const ending = await script.ending();
      assert.match(ending.stderr, message);
      assert.match(ending.stderr, /^server: [^\n]+\n$/);
      assert.equal(ending.code, code);
      assert.equal(ending.stdout, "");
    });
  }

  await t.step("no permission", async () => {
    await using script = Script.start(SERVER, { permissions: [] });
    const { code, stderr } = await script.ending();
    assert.match(
      stderr,
      /^server: no permission for 127\.0\.0\.1:6789.*--allow-net\n$/,
    );
    assert.equal(code, 1);
  });
});

Deno.test({
  name: "server - a port that needs the system's permission (setpriv, root)",
  ignore: !has("setpriv") || Deno.uid() !== 0 || unprivilegedPorts() <= 80,
  async fn() {
    const folder = await Deno.makeTempDir();
    await Deno.chmod(folder, 0o777);
    await Deno.copyFile(SERVER, `${folder}/server.ts`);
    await using script = Script.start(`${folder}/server.ts`, {
      wrapper: ["setpriv", "--reuid=65534", "--clear-groups"],
      env: { DENO_DIR: folder },
      args: ["--port", "80"],
    });
    const { code, stderr } = await script.ending();
    assert.match(
      stderr,
      /^server: 127\.0\.0\.1:80 needs .* --port above 1023\n$/,
    );
    assert.equal(code, 1);
    await Deno.remove(folder, { recursive: true });
  },
});

/** The first port that anybody may listen on. */
function unprivilegedPorts(): number {
  try {
    const file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    return Number(Deno.readTextFileSync(file));
  } catch {
    return 0;
  }
}

Deno.test("server - --help fits a screen and names every option", async () => {
  await using script = Script.start(SERVER, { args: ["--help"] });
  const { code, stdout, stderr } = await script.ending();
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
  const named = stdout.match(/--[a-z][a-z-]+/g)!;
  const options = [
    "--hostname",
    "--port",
    "--max-connections",
    "--idle-timeout",
    "--quiet",
    "--help",
  ];
  assert.deepEqual(named.filter((name) => name !== "--allow-net"), options);
  const lines = stdout.split("\n");
  assert.ok(lines.length <= 24, "more than 24 lines");
  assert.ok(lines.every((line) => line.length <= 80), "more than 80 columns");
});
