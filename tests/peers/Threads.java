// SPDX-License-Identifier: 0BSD

import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Reader;
import java.io.Writer;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Locale;

/**
 * The service in Java: a thread for each client.
 *
 * <pre>java tests/peers/Threads.java [PORT]</pre>
 */
class Threads {
  public static void main(String[] args) throws IOException {
    int port = args.length > 0 ? Integer.parseInt(args[0]) : 0;
    InetAddress address = InetAddress.getByName("127.0.0.1");
    try (ServerSocket welcomeSocket = new ServerSocket(port, 128, address)) {
      System.out.println("listening on 127.0.0.1:" + welcomeSocket.getLocalPort());
      while (true) {
        try {
          Socket connectionSocket = welcomeSocket.accept();
          new Thread(() -> serve(connectionSocket)).start();
        } catch (IOException error) {
          // The client had gone before it was accepted.
        }
      }
    }
  }

  static void serve(Socket connectionSocket) {
    try (connectionSocket) {
      Reader in = new InputStreamReader(
          connectionSocket.getInputStream(), StandardCharsets.UTF_8);
      Writer out = new OutputStreamWriter(
          connectionSocket.getOutputStream(), StandardCharsets.UTF_8);
      // A character beyond U+FFFF is two chars, and a read may end between them.
      char[] buffer = new char[8192];
      int kept = 0;
      int count;
      while ((count = in.read(buffer, kept, buffer.length - kept)) != -1) {
        int end = kept + count;
        kept = Character.isHighSurrogate(buffer[end - 1]) ? 1 : 0;
        out.write(new String(buffer, 0, end - kept).toUpperCase(Locale.ROOT));
        out.flush();
        if (kept == 1) buffer[0] = buffer[end - 1];
      }
      connectionSocket.shutdownOutput(); // all replies first, then the end
    } catch (IOException error) {
      // This client's failure is no other's.
    }
  }
}
