package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

/**
 * An event of the topic "events". The whole record is parsed, by Jackson's streaming parser, but
 * only the fields that a job wants become objects: faster than any binding to classes.
 */
public final class Hit {
    private static final JsonFactory JSON = new JsonFactory();

    public String user;
    public String page;
    public long time;

    /** Fills this hit from a record's value. */
    public void parse(byte[] value) throws IOException {
        try (JsonParser p = JSON.createParser(value)) {
            if (p.nextToken() != JsonToken.START_OBJECT) {
                throw new IOException("event is no JSON object");
            }
            for (String field = p.nextFieldName(); field != null; field = p.nextFieldName()) {
                switch (field) {
                    case "user" -> user = p.nextTextValue();
                    case "page" -> page = p.nextTextValue();
                    case "time" -> time = p.nextLongValue(0);
                    default -> {
                        p.nextToken();
                        p.skipChildren();
                    }
                }
            }
        }
    }
}
