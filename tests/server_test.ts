// SPDX-License-Identifier: 0BSD

/** The server as a process: what a client, an operator and a log reader see. */

import assert from "node:assert/strict";
import { readAll, Script, talk, writeAll } from "../lib/process.ts";
import {
  ask,
  denoSince,
  has,
  readSlowly,
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
        readSlowly(connection, upper),
        writeAll(connection, text).then(() => connection.closeWrite()),
      ]);
      assert.equal(reply, upper.length, "bytes of the reply were lost");
    }));
  }
});

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
    [["--max-per-address", "-"], 2, /--max-per-address .* from 0 .* not "-"/],
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
    "--max-per-address",
    "--idle-timeout",
    "--quiet",
    "--help",
  ];
  assert.deepEqual(named.filter((name) => name !== "--allow-net"), options);
  const lines = stdout.split("\n");
  assert.ok(lines.length <= 24, "more than 24 lines");
  assert.ok(lines.every((line) => line.length <= 80), "more than 80 columns");
});
