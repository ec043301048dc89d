// What holds for every head, whoever sent it.

/// Prefixes of a head: never complete before its end, once refused always refused and for the same
/// reason; and no outcome depends on the bytes behind a complete head.
func checkPrefixes(
    _ bytes: UnsafeRawBufferPointer, _ outcome: HeadOutcome,
    _ parse: (UnsafeRawBufferPointer) -> HeadOutcome
) {
    // Each prefix in memory of its own, so that AddressSanitizer sees a read behind it.
    let step = max(1, bytes.count / 64)
    for count in stride(from: 0, to: bytes.count, by: step) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        let prefix = parse(UnsafeRawBufferPointer(copy))
        switch (prefix, outcome) {
        case (.incomplete, .complete(let headBytes)): precondition(count < headBytes)
        case (.incomplete, _): break
        case (.complete(let first), .complete(let headBytes)):
            precondition(first == headBytes && count >= headBytes)
        case (.invalid(let first), .invalid(let fault)): precondition(first == fault)
        default: preconditionFailure("\(prefix) became \(outcome)")
        }
    }
}

/// Field lines tile the bytes before the closing empty line, and hold what the grammar allows.
func checkFields(
    _ bytes: UnsafeRawBufferPointer, _ fields: borrowing FieldList, headBytes: Int
) {
    precondition(headBytes <= bytes.count)
    var next = headBytes - 2
    precondition(bytes[next] == 0x0D && bytes[next + 1] == 0x0A)
    for position in (0..<fields.count).reversed() {
        let field = fields[position]
        precondition(field.line.end == next)
        precondition(bytes[next - 2] == 0x0D && bytes[next - 1] == 0x0A)
        precondition(field.name.offset == field.line.offset && !field.name.isEmpty)
        precondition(bytes[field.name.end] == 0x3A)
        precondition(field.value.start > field.name.end && field.value.end <= next - 2)
        for byte in field.name.bytes(in: bytes) { precondition(Bytes.isToken(byte)) }
        for byte in field.value.bytes(in: bytes) {
            precondition(byte == 0x09 || (byte >= 0x20 && byte != 0x7F))
        }
        for around in [(field.name.end + 1)..<field.value.start, field.value.end..<(next - 2)] {
            for byte in bytes[around] { precondition(byte == 0x20 || byte == 0x09) }
        }
        let name = field.name.bytes(in: bytes).map { Bytes.lower($0) }
        let known = FieldName.allCases.first { known in
            name.elementsEqual(
                UnsafeBufferPointer(
                    start: known.text.utf8Start, count: known.text.utf8CodeUnitCount))
        }
        precondition(field.known == known ?? .other)
        precondition(!field.known.isHopByHop || field.isHopByHop)
        if field.known != .other {
            precondition(fields.contains(field.known) && fields.first(field.known)! <= position)
        }
        next = field.line.start
    }
}
