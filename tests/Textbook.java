// SPDX-License-Identifier: 0BSD

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

import static java.nio.charset.StandardCharsets.UTF_8;

/** The lecture's pair in Java: one line, its reply, close. */
class Textbook {
  public static void main(String[] args) throws Exception {
    int port = Integer.parseInt(args[1]);
    if (args[0].equals("server")) serve(port);
    else System.out.println(ask(port, args[2]));
  }

  static void serve(int port) throws Exception {
    try (ServerSocket serverSocket =
        new ServerSocket(port, 50, InetAddress.getLoopbackAddress())) {
      System.out.println("listening on 127.0.0.1:" + serverSocket.getLocalPort());
      while (true) {
        try (Socket connectionSocket = serverSocket.accept()) {
          String line = reader(connectionSocket).readLine();
          if (line != null) writer(connectionSocket).println(line.toUpperCase());
        }
      }
    }
  }

  static String ask(int port, String line) throws Exception {
    try (Socket clientSocket = new Socket("127.0.0.1", port)) {
      writer(clientSocket).println(line);
      return reader(clientSocket).readLine();
    }
  }

  static BufferedReader reader(Socket socket) throws Exception {
    return new BufferedReader(new InputStreamReader(socket.getInputStream(), UTF_8));
  }

  static PrintWriter writer(Socket socket) throws Exception {
    return new PrintWriter(socket.getOutputStream(), true, UTF_8);
  }
}
