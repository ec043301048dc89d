import CLinux

/// Reads over a body without keeping it: by length, by chunks, or to the connection's end.
struct BodyReader {
    enum Phase: UInt8 {
        case done, length, untilClose, chunkSize, chunkData, chunkEnd, trailers, bad
    }

    /// Bytes of the longest chunk-size or trailer line.
    static let lineBytesMax = 8_192

    private(set) var phase = Phase.done
    private var left = 0
    /// Bytes of content so far, without chunk framing.
    private(set) var bodyBytes = 0

    init() {}

    static var none: BodyReader { BodyReader() }

    static func length(_ bytes: Int) -> BodyReader {
        var reader = BodyReader()
        reader.phase = bytes > 0 ? .length : .done
        reader.left = bytes
        return reader
    }

    static var chunked: BodyReader {
        var reader = BodyReader()
        reader.phase = .chunkSize
        return reader
    }

    static var untilClose: BodyReader {
        var reader = BodyReader()
        reader.phase = .untilClose
        return reader
    }

    /// Bytes of a body with a length that are still to come, where they are worth discarding in
    /// the kernel; 0 otherwise.
    var discardable: Int {
        phase == .length && left >= LoadLimits.discardBytesMin ? left : 0
    }

    /// `count` of the `discardable` bytes came and were thrown away.
    mutating func discarded(_ count: Int) {
        precondition(phase == .length && count <= left)
        left -= count
        bodyBytes += count
        if left == 0 { phase = .done }
    }

    /// Takes what belongs to the body and returns how many bytes that was. Bytes that are left
    /// while the phase is neither `done` nor `bad` are the start of a line: give them again
    /// with more behind them.
    mutating func consume(_ base: UnsafePointer<UInt8>, _ count: Int) -> Int {
        var at = 0
        while at < count {
            switch phase {
            case .done, .bad: return at
            case .untilClose:
                bodyBytes += count - at
                return count
            case .length, .chunkData:
                let taken = min(left, count - at)
                left -= taken
                bodyBytes += taken
                at += taken
                if left == 0 { phase = phase == .length ? .done : .chunkEnd }
            case .chunkSize, .chunkEnd, .trailers:
                guard let end = memchr(base + at, 0x0A, count - at) else {
                    if count - at > Self.lineBytesMax { phase = .bad }
                    return at
                }
                let next = UnsafePointer(end.assumingMemoryBound(to: UInt8.self)) - base + 1
                readLine(base + at, next - at)
                at = next
            }
        }
        return at
    }

    /// One line of `count` bytes with its LF.
    private mutating func readLine(_ line: UnsafePointer<UInt8>, _ count: Int) {
        guard count >= 2, line[count - 2] == 0x0D else {
            phase = .bad
            return
        }
        switch phase {
        case .chunkEnd: phase = count == 2 ? .chunkSize : .bad
        case .trailers: if count == 2 { phase = .done }
        default:
            var size = 0
            var digits = 0
            while digits < count, let digit = Self.hexDigit(line[digits]), digits < 15 {
                size = size << 4 | digit
                digits += 1
            }
            let after = line[digits]
            guard digits > 0, after == 0x0D || after == 0x3B || after == 0x20 else {
                phase = .bad
                return
            }
            left = size
            phase = size == 0 ? .trailers : .chunkData
        }
    }

    private static func hexDigit(_ byte: UInt8) -> Int? {
        switch byte {
        case 0x30...0x39: Int(byte) - 0x30
        case 0x41...0x46: Int(byte) - 0x37
        case 0x61...0x66: Int(byte) - 0x57
        default: nil
        }
    }
}
