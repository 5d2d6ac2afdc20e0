import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.sql.DriverManager;
import java.sql.SQLException;

/** Ask: as ask.py, for the class in Java. The argument is the URL of the database. */
public final class Ask {
    /** What the document warns of. */
    private static void askUnbound(String url, String secret) throws SQLException {
        try (var connection = DriverManager.getConnection(url + "?preferQueryMode=simple", "service", "");
                var ask = connection.prepareStatement("SELECT key_id FROM overten_verify_key(?)")) {
            ask.setString(1, secret);
            ask.executeQuery();
        }
    }

    private static String answerTo(String url, String[] words) throws SQLException {
        if (words[0].equals("unbound")) {
            askUnbound(url, words[1]);
            return "none";
        }
        if (words[0].equals("verify"))
            return Keys.verify(words[1])
                    .map(key -> "row " + key.keyId() + " " + key.orgId() + " " + key.tier())
                    .orElse("none");
        return Keys.mint(words[1], words[2])
                .map(key -> "row " + key.keyId() + " " + key.secret())
                .orElse("none");
    }

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));

        for (var line = lines.readLine(); line != null; line = lines.readLine()) {
            var words = line.split(" ", -1);
            for (var i = 0; i < words.length; i++) words[i] = URLDecoder.decode(words[i], StandardCharsets.UTF_8);
            try {
                System.out.println(answerTo(arguments[0], words));
            } catch (IllegalArgumentException error) {
                System.out.println("invalid " + error.getMessage());
            } catch (SQLException error) {
                error.printStackTrace();
                System.out.println("error " + error.getSQLState());
            }
        }
        System.exit(0);
    }
}
