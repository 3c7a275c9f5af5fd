package peers;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Text of fields with one blank between them. One is used again and again, by one thread. It is
 * serializable for the functions of Flink that hold one.
 */
public final class Line implements Serializable {
    private byte[] bytes = new byte[128];
    private int size;

    public Line clear() {
        size = 0;
        return this;
    }

    public Line add(long number) {
        separate();
        room(20);
        if (number < 0) { // none of the jobs has any: not worth a fast way
            append(Long.toString(number).getBytes(StandardCharsets.ISO_8859_1));
            return this;
        }
        int digits = 1;
        for (long rest = number; rest >= 10; rest /= 10) {
            digits++;
        }
        for (int at = size + digits - 1; at >= size; at--) {
            bytes[at] = (byte) ('0' + number % 10);
            number /= 10;
        }
        size += digits;
        return this;
    }

    public Line add(String text) {
        separate();
        append(text.getBytes(StandardCharsets.UTF_8));
        return this;
    }

    public byte[] bytes() {
        return Arrays.copyOf(bytes, size);
    }

    private void separate() {
        if (size > 0) {
            room(1);
            bytes[size++] = ' ';
        }
    }

    private void append(byte[] more) {
        room(more.length);
        System.arraycopy(more, 0, bytes, size, more.length);
        size += more.length;
    }

    private void room(int more) {
        if (size + more > bytes.length) {
            bytes = Arrays.copyOf(bytes, Math.max(size + more, 2 * bytes.length));
        }
    }
}
