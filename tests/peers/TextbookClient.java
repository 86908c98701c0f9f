// SPDX-License-Identifier: 0BSD

import java.io.BufferedReader;
import java.io.DataOutputStream;
import java.io.InputStreamReader;
import java.net.Socket;

/**
 * The client to Textbook.java: a line from the keyboard, its reply, the close.
 *
 * <pre>java tests/peers/TextbookClient.java PORT</pre>
 */
class TextbookClient {
  public static void main(String[] args) throws Exception {
    BufferedReader inFromUser =
        new BufferedReader(new InputStreamReader(System.in));
    Socket clientSocket = new Socket("127.0.0.1", Integer.parseInt(args[0]));
    DataOutputStream outToServer =
        new DataOutputStream(clientSocket.getOutputStream());
    BufferedReader inFromServer = new BufferedReader(
        new InputStreamReader(clientSocket.getInputStream()));
    outToServer.writeBytes(inFromUser.readLine() + '\n');
    System.out.println("FROM SERVER: " + inFromServer.readLine());
    clientSocket.close();
  }
}
