package auditlogger;

import com.sun.jna.Library;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.nio.file.Path;

/** How C is called before Java 22: by JNA. The jar holds another of this name for 22 and later. */
final class Binding {
    /** What JNA implements. */
    interface ByJna extends CLibrary, Library {}

    private Binding() {}

    static CLibrary load(Path file) {
        return Native.load(file.toString(), ByJna.class);
    }

    static byte[] read(long address, long length) {
        return new Pointer(address).getByteArray(0, Math.toIntExact(length));
    }
}
