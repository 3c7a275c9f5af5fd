package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

/**
 * An event of the topic "nexmark", parsed as {@link Hit} is: of the three kinds that there are,
 * and the record that closes a partition, the fields that the jobs want.
 */
public final class Trade {
    public static final int PERSON = 0;
    public static final int AUCTION = 1;
    public static final int BID = 2;
    public static final int CLOSE = 3;

    private static final JsonFactory JSON = new JsonFactory();

    public int type;
    public long time;

    // Of a person, and the id of an auction.
    public long id;
    public String name;

    // Of an auction.
    public long seller;

    // Of a bid.
    public long auction;
    public long bidder;
    public long price;

    /** Fills this event from a record's value. */
    public void parse(byte[] value) throws IOException {
        try (JsonParser p = JSON.createParser(value)) {
            if (p.nextToken() != JsonToken.START_OBJECT) {
                throw new IOException("event is no JSON object");
            }
            for (String field = p.nextFieldName(); field != null; field = p.nextFieldName()) {
                switch (field) {
                    case "event_type" -> type = p.nextIntValue(-1);
                    case "close" -> time = p.nextLongValue(0);
                    default -> {
                        if (p.nextToken() == JsonToken.START_OBJECT) {
                            parseFields(p);
                        }
                    }
                }
            }
        }
    }

    private void parseFields(JsonParser p) throws IOException {
        for (String field = p.nextFieldName(); field != null; field = p.nextFieldName()) {
            switch (field) {
                case "id" -> id = p.nextLongValue(0);
                case "name" -> name = p.nextTextValue();
                case "seller" -> seller = p.nextLongValue(0);
                case "auction" -> auction = p.nextLongValue(0);
                case "bidder" -> bidder = p.nextLongValue(0);
                case "price" -> price = p.nextLongValue(0);
                case "dateTime" -> time = p.nextLongValue(0);
                default -> {
                    p.nextToken();
                    p.skipChildren();
                }
            }
        }
    }
}
