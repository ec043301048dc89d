import HTTP
import Upstream

/// The keys by which clients are let in, compared in a time that tells nothing of them.
struct ClientKeys {
    /// Each key in `width` bytes, zeros behind it.
    private let keys: UnsafeMutablePointer<UInt8>
    private let lengths: UnsafeMutablePointer<Int>
    private let count: Int
    private let width: Int

    /// Nil where no key is asked for. A key that is not there lets nobody in.
    init?(_ auth: AuthSettings?) {
        guard let auth else { return nil }
        let texts = auth.keys.map { Array(($0.key?.text ?? "").utf8) }
        count = texts.count
        width = max(1, texts.map(\.count).max() ?? 1)
        keys = .allocate(capacity: max(1, count * width))
        keys.initialize(repeating: 0, count: max(1, count * width))
        lengths = .allocate(capacity: max(1, count))
        for (index, text) in texts.enumerated() {
            lengths[index] = text.count
            for (place, byte) in text.enumerated() { keys[index * width + place] = byte }
        }
    }

    /// The place of the key that a request brings, counted from 1; 0 where it brings none that is
    /// known.
    func find(_ fields: borrowing FieldList, _ bytes: UnsafeRawPointer) -> Int {
        for index in 0..<fields.count {
            let found = place(of: fields[index], bytes)
            if found > 0 { return found }
        }
        return 0
    }

    /// Whether a field carries a key of this gateway's, and so is not passed on.
    func carriesKey(_ field: Field, _ bytes: UnsafeRawPointer) -> Bool {
        place(of: field, bytes) > 0
    }

    private func place(of field: Field, _ bytes: UnsafeRawPointer) -> Int {
        ProviderFields.key(in: field, bytes).map { place(of: $0) } ?? 0
    }

    /// Compares with all keys, each to its end: how long that takes depends on the number and the
    /// lengths of the keys alone, and on the length of what the client has sent.
    private func place(of value: UnsafeRawBufferPointer) -> Int {
        var start = 0
        var end = value.count
        while start < end, value[start] == 0x20 { start += 1 }
        while end > start, value[end - 1] == 0x20 { end -= 1 }
        let length = end - start
        guard length > 0 else { return 0 }
        var found = 0
        for index in 0..<count {
            var difference = UInt(bitPattern: lengths[index] ^ length)
            for place in 0..<width {
                let byte = place < length ? value[start + place] : 0
                difference |= UInt(keys[index * width + place] ^ byte)
            }
            // All bits or none, without a branch.
            let isSame = Int(truncatingIfNeeded: (difference | (0 &- difference)) >> 63) ^ 1
            found |= isSame &* (index + 1) & ~(found > 0 ? Int.max : 0)
        }
        return found
    }
}
