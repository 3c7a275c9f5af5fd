package peers.streams;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** Longs in byte arrays, the largest byte first, so that keys of times sort by them. */
final class Longs {
    private static final VarHandle LONG =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    private Longs() {}

    static long get(byte[] bytes, int at) {
        return (long) LONG.get(bytes, at);
    }

    static void put(byte[] bytes, int at, long value) {
        LONG.set(bytes, at, value);
    }

    static byte[] of(long a, long b) {
        byte[] bytes = new byte[16];
        put(bytes, 0, a);
        put(bytes, 8, b);
        return bytes;
    }
}
