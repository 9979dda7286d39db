package auditlogger;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodType;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/** How C is called from Java 22 on: by the JDK's own FFM. */
final class Binding {
    private Binding() {}

    static CLibrary load(Path file) {
        // Never unloaded: the library's threads outlive any arena.
        SymbolLookup symbols = SymbolLookup.libraryLookup(file, Arena.global());
        Map<Method, MethodHandle> functions = new HashMap<>();
        for (Method method : CLibrary.class.getMethods()) {
            MethodHandle function = Linker.nativeLinker()
                    .downcallHandle(symbols.find(method.getName()).orElseThrow(), descriptor(method));
            functions.put(method, function
                    .asSpreader(Object[].class, method.getParameterCount())
                    .asType(MethodType.methodType(Object.class, Object[].class)));
        }
        return (CLibrary) Proxy.newProxyInstance(CLibrary.class.getClassLoader(), new Class<?>[] {CLibrary.class},
                (_, method, arguments) -> call(functions.get(method), arguments));
    }

    static byte[] read(long address, long length) {
        return MemorySegment.ofAddress(address).reinterpret(length).toArray(JAVA_BYTE);
    }

    private static FunctionDescriptor descriptor(Method method) {
        MemoryLayout[] parameters =
                Arrays.stream(method.getParameterTypes()).map(Binding::layout).toArray(MemoryLayout[]::new);
        return method.getReturnType() == void.class
                ? FunctionDescriptor.ofVoid(parameters)
                : FunctionDescriptor.of(layout(method.getReturnType()), parameters);
    }

    private static MemoryLayout layout(Class<?> type) {
        return type == int.class ? JAVA_INT : type == long.class ? JAVA_LONG : ADDRESS;
    }

    private static Object call(MethodHandle function, Object[] arguments) throws Throwable {
        try (Arena arena = Arena.ofConfined()) {
            Object[] passed = new Object[arguments.length];
            for (int i = 0; i < passed.length; i++) {
                passed[i] = switch (arguments[i]) {
                    case null -> MemorySegment.NULL;
                    case byte[] text -> arena.allocateFrom(JAVA_BYTE, text);
                    case long[] place -> arena.allocateFrom(JAVA_LONG, place);
                    default -> arguments[i];
                };
            }
            Object result = (Object) function.invokeExact(passed);
            for (int i = 0; i < passed.length; i++) {
                if (arguments[i] instanceof long[] place) {
                    place[0] = ((MemorySegment) passed[i]).get(JAVA_LONG, 0);
                }
            }
            return result;
        }
    }
}
