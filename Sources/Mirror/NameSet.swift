/// A few names from the configuration, laid out flat so that a look-up touches no Array and no
/// String.
struct NameSet: ~Copyable {
    private let bytes: UnsafeMutablePointer<UInt8>
    private let ends: UnsafeMutablePointer<Int>
    private let count: Int

    /// A set of `names`, each put in lower case. With `folding` also `_` becomes `-`.
    init(_ names: [String], folding: Bool) {
        count = names.count
        bytes = .allocate(capacity: max(1, names.reduce(0) { $0 + $1.utf8.count }))
        ends = .allocate(capacity: max(1, names.count))
        var position = 0
        for (index, name) in names.enumerated() {
            for byte in name.utf8 {
                let lower = byte &- 0x41 < 26 ? byte | 0x20 : byte
                bytes[position] = folding && lower == 0x5F ? 0x2D : lower
                position += 1
            }
            ends[index] = position
        }
    }

    deinit {
        bytes.deallocate()
        ends.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    func contains(_ name: UnsafeRawBufferPointer) -> Bool {
        var start = 0
        for index in 0..<count {
            let end = ends[index]
            if end - start == name.count, equals(name, start) { return true }
            start = end
        }
        return false
    }

    private func equals(_ name: UnsafeRawBufferPointer, _ start: Int) -> Bool {
        for index in 0..<name.count where name[index] != bytes[start + index] { return false }
        return true
    }
}
