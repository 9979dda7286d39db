package auditlogger;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;

/** The loaded library, and texts to and from it. */
final class Native {
    static final int OK = 0;
    static final int HANDLE = -2;
    static final int CANCELLED = -7;
    static final int EVENT_CHUNK = 2;
    static final int EVENT_DONE = 3;

    static final CLibrary LIBRARY = load();

    private Native() {}

    /** A text of the library's that lives for ever, or as long as its reply. */
    static String text(long address, long length) {
        return address == 0 ? null : new String(Binding.read(address, length), StandardCharsets.UTF_8);
    }

    static String statusName(int status) {
        long name = LIBRARY.audit_status_name(status);
        long length = 0;
        while (Binding.read(name + length, 1)[0] != 0) {
            length++;
        }
        return text(name, length);
    }

    /** UTF-8. A half of a character is refused: replaced, another text than the caller's would be sent. */
    static byte[] utf8(String text) {
        try {
            ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            return Arrays.copyOf(bytes.array(), bytes.limit());
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("the text has an unpaired surrogate, which UTF-8 can't say", e);
        }
    }

    /** UTF-8 and a NUL. */
    static byte[] terminated(String text) {
        byte[] bytes = utf8(text);
        return Arrays.copyOf(bytes, bytes.length + 1);
    }

    private static CLibrary load() {
        String named = System.getProperty("auditlogger.library", System.getenv("AUDIT_LOGGER_LIBRARY"));
        if (named != null) {
            return Binding.load(Path.of(named).toAbsolutePath());
        }
        String os = System.getProperty("os.name").toLowerCase(java.util.Locale.ROOT);
        String machine = System.getProperty("os.arch").equals("amd64") ? "x86-64" : System.getProperty("os.arch");
        String resource = "/" + os + "-" + machine + "/libaudit_logger.so";
        try (InputStream packed = Native.class.getResourceAsStream(resource)) {
            if (packed == null) {
                throw new UnsatisfiedLinkError("the jar has no " + resource
                        + "; name the library in the system property auditlogger.library");
            }
            Path file = Files.createTempFile("audit_logger", ".so");
            try {
                Files.copy(packed, file, StandardCopyOption.REPLACE_EXISTING);
                return Binding.load(file);
            } finally {
                Files.delete(file); // It stays mapped.
            }
        } catch (IOException e) {
            throw new UncheckedIOException("the library can't be unpacked into java.io.tmpdir", e);
        }
    }
}
