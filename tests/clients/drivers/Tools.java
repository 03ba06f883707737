import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;

import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command-line tools, many calls in one JVM. A line in is a main class and its arguments,
 * each in base64, separated by spaces; a line out is the exit code and what was printed, in base64.
 */
public class Tools {
    /** What a tool exits with first: some catch everything, this exception too, and exit again. */
    private static Integer exitCode;

    public static void main(String[] unused) throws Exception {
        PrintStream out = System.out;
        Exit.setExitProcedure((code, message) -> {
            exitCode = exitCode == null ? code : exitCode;
            throw new IllegalStateException("exit " + code);
        });
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = Arrays.stream(line.split(" "))
                .map(word -> new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8))
                .toArray(String[]::new);
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            PrintStream capture = new PrintStream(printed, true, StandardCharsets.UTF_8);
            System.setOut(capture);
            System.setErr(capture);
            int code = run(words[0], Arrays.copyOfRange(words, 1, words.length));
            out.println(code + " " + Base64.getEncoder().encodeToString(printed.toByteArray()));
            out.flush();
        }
    }

    private static int run(String tool, String[] arguments) {
        exitCode = null;
        // Scala's console keeps the stream it found first, unless it is given one.
        scala.Console.withOut(System.out, (scala.Function0<Object>) () -> {
            try {
                Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (InvocationTargetException failed) {
                if (exitCode == null) {
                    exitCode = 1;
                    failed.getCause().printStackTrace();
                }
            } catch (ReflectiveOperationException failed) {
                throw new IllegalStateException(failed);
            }
            return null;
        });
        return exitCode == null ? 0 : exitCode;
    }
}
