// Decodes messages with Apache Kafka's own generated classes and encodes them again.
//
// One line in: api key, version, "request" or "response", the body in hex ("-" when empty).
// One line out: the body in hex, or "error: ..." when Kafka does not take it or leaves bytes over.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

class MessageEcho {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.append(echo(line.split(" "))).append('\n');
        }
        System.out.print(out);
    }

    static String echo(String[] words) {
        try {
            short version = Short.parseShort(words[1]);
            ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(words[0]));
            ApiMessage message = words[2].equals("request") ? type.newRequest() : type.newResponse();
            String hex = words[3].equals("-") ? "" : words[3];
            ByteBuffer body = ByteBuffer.wrap(HexFormat.of().parseHex(hex));
            message.read(new ByteBufferAccessor(body), version);
            if (body.hasRemaining()) {
                return "error: " + body.remaining() + " bytes left over";
            }
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer again = ByteBuffer.allocate(message.size(cache, version));
            message.write(new ByteBufferAccessor(again), cache, version);
            return again.hasRemaining() ? "error: size and write disagree"
                : again.position() == 0 ? "-" : HexFormat.of().formatHex(again.array());
        } catch (Exception error) {
            return "error: " + error;
        }
    }
}
