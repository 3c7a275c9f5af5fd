package peers.flink;

import java.io.Serializable;

/** What is written to Kafka. The key may be null. Operators reuse one. */
public final class Text implements Serializable {
    public byte[] key;
    public byte[] value;

    public Text of(byte[] key, byte[] value) {
        this.key = key;
        this.value = value;
        return this;
    }
}
