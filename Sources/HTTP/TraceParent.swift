/// The `traceparent` field of W3C Trace Context (Recommendation, §3.2): which trace a request
/// belongs to, and the span that sent it.
public struct TraceParent: BitwiseCopyable, Sendable, Equatable {
    /// Characters of the form that this version writes.
    public static let textBytes = 55
    /// The flags that have a meaning: sampled, and random-trace-id (Level 2). Others are to be sent
    /// as 0 (§3.2.2.5.2).
    static let knownFlags: UInt8 = 0x03
    /// The flag of a trace that is recorded.
    public static let sampled: UInt8 = 0x01

    /// The two halves of the trace-id, never both 0.
    public var traceHigh: UInt64
    public var traceLow: UInt64
    /// The span, never 0: `parent-id` on the wire.
    public var span: UInt64
    public var flags: UInt8

    /// A trace of these ids, which are not checked.
    public init(traceHigh: UInt64, traceLow: UInt64, span: UInt64, flags: UInt8) {
        self.traceHigh = traceHigh
        self.traceLow = traceLow
        self.span = span
        self.flags = flags
    }

    /// Reads a field's value; nil where it is malformed.
    ///
    /// A version above 00 is read by its first four parts (§3.2.4), ff is none. What is written is
    /// always version 00.
    public init?(_ value: UnsafeRawBufferPointer) {
        guard value.count >= Self.textBytes else { return nil }
        guard let version = Self.hex(value, 0, 2), version != 0xFF else { return nil }
        if value.count > Self.textBytes {
            guard version != 0, value[Self.textBytes] == 0x2D else { return nil }
        }
        guard value[2] == 0x2D, value[35] == 0x2D, value[52] == 0x2D,
            let high = Self.hex(value, 3, 16), let low = Self.hex(value, 19, 16),
            let span = Self.hex(value, 36, 16), let flags = Self.hex(value, 53, 2),
            high | low != 0, span != 0
        else { return nil }
        traceHigh = high
        traceLow = low
        self.span = span
        self.flags = UInt8(truncatingIfNeeded: flags) & Self.knownFlags
    }

    /// The one `traceparent` of a head; nil where there is none, several, or a malformed one.
    public init?(_ fields: borrowing FieldList, _ bytes: UnsafeRawPointer) {
        guard fields.contains(.traceparent), fields.repeated & FieldName.traceparent.bit == 0,
            let place = fields.first(.traceparent)
        else { return nil }
        let value = fields[place].value
        self.init(UnsafeRawBufferPointer(start: bytes + value.start, count: Int(value.count)))
    }

    /// Small letters only (§3.2.2): another reading of the same field would be another trace.
    private static func hex(_ value: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> UInt64?
    {
        var number: UInt64 = 0
        for index in start..<start + count {
            let byte = value[index]
            let digit: UInt8
            if byte &- 0x30 < 10 {
                digit = byte &- 0x30
            } else if byte &- 0x61 < 6 {
                digit = byte &- 0x57
            } else {
                return nil
            }
            number = number << 4 | UInt64(digit)
        }
        return number
    }

    /// Appends the value.
    public func append(to writer: inout HeadWriter) {
        writer.append("00-")
        appendTraceID(to: &writer)
        writer.append(byte: 0x2D)
        writer.append(hex: span, digits: 16)
        writer.append(byte: 0x2D)
        writer.append(hex: UInt64(flags), digits: 2)
    }

    /// Appends the 32 digits of the trace-id.
    public func appendTraceID(to writer: inout HeadWriter) {
        writer.append(hex: traceHigh, digits: 16)
        writer.append(hex: traceLow, digits: 16)
    }
}

/// The `tracestate` field (§3.3): what each vendor on the way wrote, the last one first.
public enum TraceState {
    /// List members of one field, and characters that have to be passed on (§3.3.1.1, §3.3.1.5).
    static let membersMax = 32
    static let bytesMax = 512
    private static let keyBytesMax = 256
    private static let valueBytesMax = 256

    /// Appends the value with `umbra=shadow` before what came in: without a member that we wrote
    /// before, and without those that go beyond the limits, from the end. Malformed, the incoming
    /// members are left out altogether (§3.3.1.4).
    public static func appendMarked(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer, to writer: inout HeadWriter
    ) {
        writer.append("umbra=shadow")
        guard fields.contains(.tracestate), isValid(fields, bytes) else { return }
        var members = 1
        var written = 12
        walk(fields, bytes) { member in
            guard !isOurs(member) else { return true }
            guard members < membersMax, written + member.count + 1 <= bytesMax else { return false }
            writer.append(byte: 0x2C)
            writer.append(member)
            members += 1
            written += member.count + 1
            return true
        }
    }

    private static func isValid(_ fields: borrowing FieldList, _ bytes: UnsafeRawPointer) -> Bool {
        var isValid = true
        var count = 0
        walk(fields, bytes) { member in
            count += 1
            isValid = count <= membersMax && isMember(member)
            return isValid
        }
        return isValid
    }

    /// Calls `body` with each member that is not empty, until it returns false.
    private static func walk(
        _ fields: borrowing FieldList, _ bytes: UnsafeRawPointer,
        _ body: (UnsafeRawBufferPointer) -> Bool
    ) {
        for place in 0..<fields.count where fields[place].known == .tracestate {
            let value = fields[place].value
            let whole = Bytes(base: bytes + value.start, count: Int(value.count))
            var start = 0
            while start < whole.count {
                var end = start
                while end < whole.count, whole[end] != 0x2C { end += 1 }
                let range = whole.trimmed(ByteRange(start, end))
                start = end + 1
                if range.isEmpty { continue }
                let member = UnsafeRawBufferPointer(
                    start: whole.base + range.start, count: Int(range.count))
                guard body(member) else { return }
            }
        }
    }

    private static func isOurs(_ member: UnsafeRawBufferPointer) -> Bool {
        let key: StaticString = "umbra="
        guard member.count >= key.utf8CodeUnitCount else { return false }
        for index in 0..<key.utf8CodeUnitCount where member[index] != key.utf8Start[index] {
            return false
        }
        return true
    }

    private static func isMember(_ member: UnsafeRawBufferPointer) -> Bool {
        guard let equals = member.firstIndex(of: 0x3D), equals > 0, equals <= keyBytesMax else {
            return false
        }
        let valueBytes = member.count - equals - 1
        guard valueBytes >= 1, valueBytes <= valueBytesMax else { return false }
        guard isLetter(member[0]) || Bytes.isDigit(member[0]) else { return false }
        for byte in member[1..<equals] where !isKeyByte(byte) { return false }
        for byte in member[(equals + 1)...]
        where byte < 0x20 || byte > 0x7E || byte == 0x3D || byte == 0x2C { return false }
        return true
    }

    private static func isLetter(_ byte: UInt8) -> Bool { byte &- 0x61 < 26 }

    private static func isKeyByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x2A, 0x2D, 0x2F, 0x40, 0x5F: true  // * - / @ _
        default: isLetter(byte) || Bytes.isDigit(byte)
        }
    }
}
