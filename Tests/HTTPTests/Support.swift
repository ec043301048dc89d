import Glibc
import HTTP

/// The bytes of a row: one byte for each scalar, so that "\u{FF}" is the byte 0xFF.
func bytes(_ text: String) -> [UInt8] {
    text.unicodeScalars.map { UInt8($0.value) }
}

/// Memory that ends where the next page may not be touched: a parser that reads one byte too many
/// crashes the test.
final class GuardedMemory {
    private let base: UnsafeMutableRawPointer
    private let pages: Int
    private let pageBytes = Int(sysconf(Int32(_SC_PAGESIZE)))

    init(bytesMax: Int = 256 * 1024) {
        pages = (bytesMax + pageBytes - 1) / pageBytes
        base = mmap(
            nil, (pages + 1) * pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
        )
        precondition(base != MAP_FAILED)
        precondition(mprotect(base + pages * pageBytes, pageBytes, PROT_NONE) == 0)
    }

    deinit { munmap(base, (pages + 1) * pageBytes) }

    /// Calls `body` with a copy of `bytes` that ends at the guard page.
    func with<R>(_ bytes: some Collection<UInt8>, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        precondition(bytes.count <= pages * pageBytes)
        let start = base + (pages * pageBytes - bytes.count)
        let buffer = UnsafeMutableRawBufferPointer(start: start, count: bytes.count)
        buffer.copyBytes(from: bytes)
        return body(UnsafeRawBufferPointer(buffer))
    }
}

extension ByteRange {
    /// The bytes of this range in `source`, one scalar for each byte.
    func text(_ source: [UInt8]) -> String {
        var text = ""
        for byte in source[start..<end] { text.unicodeScalars.append(Unicode.Scalar(byte)) }
        return text
    }
}

/// SplitMix64: the same numbers on every machine for one seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A request head with its own guarded memory.
final class RequestBench {
    let head: RequestHead
    let memory = GuardedMemory()

    init(limits: HeadLimits = HeadLimits()) { head = RequestHead(limits: limits) }

    func parse(_ source: some Collection<UInt8>) -> HeadOutcome {
        memory.with(source) { head.parse($0) }
    }

    /// Name and value of each field, and whether it is hop-by-hop.
    func fields(_ source: [UInt8]) -> [String] {
        (0..<head.fields.count).map {
            let field = head.fields[$0]
            let mark = field.isHopByHop ? "!" : ""
            return mark + field.name.text(source) + "=" + field.value.text(source)
        }
    }
}

/// An answer head with its own guarded memory.
final class ResponseBench {
    let head: ResponseHead
    let memory = GuardedMemory()

    init(limits: HeadLimits = HeadLimits()) { head = ResponseHead(limits: limits) }

    func parse(
        _ source: some Collection<UInt8>, toHead: Bool = false, toConnect: Bool = false
    ) -> HeadOutcome {
        memory.with(source) { head.parse($0, toHead: toHead, toConnect: toConnect) }
    }
}
