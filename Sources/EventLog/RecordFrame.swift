import CLinux

/// What the writer puts around a record: its number, and the hash of the line before it.
///
/// A line is `{"seq":N,"prev":"HASH",` and the members of the record, `}` and a newline. N counts
/// from 1 on over all segments; HASH is the SHA-256 of the former line, from its first byte to its
/// brace, as 64 lower-case hexadecimal digits; before the first record, 64 zeros.
struct RecordFrame: Equatable {
    /// The record's number, and the hash that it names.
    var sequence: UInt64
    var previous: ChainHash

    fileprivate static let first: StaticString = "{\"seq\":"
    private static let second: StaticString = ",\"prev\":\""

    /// The frame of a line (without its newline); nil where it has none.
    init?(_ line: UnsafeRawBufferPointer) {
        var at = Self.first.utf8CodeUnitCount
        guard line.count > at + 20, memcmp(line.baseAddress!, Self.first.utf8Start, at) == 0,
            line.last == UInt8(ascii: "}")
        else { return nil }
        sequence = 0
        let digits = at
        while at < line.count, (0x30...0x39).contains(line[at]), at - digits < 19 {
            sequence = sequence * 10 + UInt64(line[at] - 0x30)
            at += 1
        }
        // One way to write a number: no zeros before it.
        guard sequence > 0, line[digits] != 0x30 else { return nil }
        let size = Self.second.utf8CodeUnitCount
        guard line.count >= at + size + ChainHash.textBytes + 4,
            memcmp(line.baseAddress! + at, Self.second.utf8Start, size) == 0
        else { return nil }
        at += size
        let text = UnsafeRawBufferPointer(rebasing: line[at..<at + ChainHash.textBytes])
        at += ChainHash.textBytes
        guard let hash = ChainHash(text: text), line[at] == UInt8(ascii: "\""),
            line[at + 1] == UInt8(ascii: ",")
        else { return nil }
        previous = hash
    }

    init(sequence: UInt64, previous: ChainHash) {
        self.sequence = sequence
        self.previous = previous
    }

    /// Writes the line of a record, newline included, and returns its length. `body` is an object
    /// with at least one member; `target` has room for `body.count + Limits.frameBytesMax`.
    func write(_ body: UnsafeRawBufferPointer, to target: UnsafeMutableRawPointer) -> Int {
        var at = 0
        func put(_ text: StaticString) {
            (target + at).copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
            at += text.utf8CodeUnitCount
        }
        put(Self.first)
        var (digits, divisor) = (1, UInt64(10))
        while digits < 19, sequence >= divisor {
            digits += 1
            divisor *= 10
        }
        var rest = sequence
        for place in stride(from: at + digits - 1, through: at, by: -1) {
            target.storeBytes(of: 0x30 + UInt8(rest % 10), toByteOffset: place, as: UInt8.self)
            rest /= 10
        }
        at += digits
        put(Self.second)
        previous.write(to: target + at)
        at += ChainHash.textBytes
        put("\",")
        (target + at).copyMemory(from: body.baseAddress! + 1, byteCount: body.count - 1)
        at += body.count - 1
        target.storeBytes(of: 0x0A, toByteOffset: at, as: UInt8.self)
        return at + 1
    }

    /// Whether `body` may become a record: an object with a member, on one line.
    ///
    /// A control byte in it would tear the line; the rest is the producer's word.
    static func isRecord(_ body: UnsafeRawBufferPointer) -> Bool {
        guard body.count >= 6, body.count <= Limits.recordBytesMax,
            body[0] == UInt8(ascii: "{"), body[1] == UInt8(ascii: "\""),
            body.last == UInt8(ascii: "}")
        else { return false }
        return hasNoControls(body)
    }

    /// Whether no byte is below 0x20: JSON on one line has none.
    static func hasNoControls(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        var isControl = SIMDMask<SIMD32<Int8>>(repeating: false)
        let bound = SIMD32<UInt8>(repeating: 0x20)
        while at + 32 <= bytes.count {
            let part = bytes.loadUnaligned(fromByteOffset: at, as: SIMD32<UInt8>.self)
            isControl .|= part .< bound
            at += 32
        }
        if any(isControl) { return false }
        while at < bytes.count {
            if bytes[at] < 0x20 { return false }
            at += 1
        }
        return true
    }
}

extension RecordFrame {
    /// Whether a line looks like a record: a reader's cheap question, not the chain's.
    static func isFramed(_ line: UnsafeRawBufferPointer) -> Bool {
        let count = first.utf8CodeUnitCount
        return line.count > count + ChainHash.textBytes && line.last == UInt8(ascii: "}")
            && memcmp(line.baseAddress!, first.utf8Start, count) == 0
    }
}
