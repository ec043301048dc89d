/// What the Connection fields of a message say (RFC 9110 §7.6.1).
///
/// The list is read leniently, as nothing about framing hangs on it: empty elements are passed
/// over, and what is no token names nothing.
struct ConnectionOptions {
    var close = false
    var keepAlive = false
    var upgrade = false
    var fault: HeadFault?

    /// Reads all Connection fields of `list` and marks the fields that they name as hop-by-hop.
    @inline(__always)
    init(_ bytes: Bytes, _ list: borrowing FieldList) {
        guard let position = list.first(.connection) else { return }
        // Nearly always one of two words, and alone.
        let value = list[position].value
        if list.repeated & FieldName.connection.bit != 0 {
            read(bytes, list)
        } else if bytes.equalsIgnoringCase(value, "keep-alive") {
            keepAlive = true
        } else if bytes.equalsIgnoringCase(value, "close") {
            close = true
        } else {
            read(bytes, list)
        }
    }

    /// True where the connection persists after this message (RFC 9112 §9.3).
    func isPersistent(versionMinor: UInt8) -> Bool {
        !close && (versionMinor >= 1 || keepAlive)
    }

    @inline(never)
    private mutating func read(_ bytes: Bytes, _ list: borrowing FieldList) {
        var named = 0
        for position in list.first(.connection)!..<list.count
        where list[position].known == .connection {
            let value = list[position].value
            var start = value.start
            while start < value.end {
                var comma = start
                while comma < value.end, bytes[comma] != 0x2C { comma += 1 }
                readOption(bytes, bytes.trimmed(ByteRange(found: start, comma)), list, &named)
                if fault != nil { return }
                start = comma + 1
            }
        }
    }

    private mutating func readOption(
        _ bytes: Bytes, _ option: ByteRange, _ list: borrowing FieldList, _ named: inout Int
    ) {
        guard !option.isEmpty else { return }
        if bytes.equalsIgnoringCase(option, "close") {
            close = true
        } else if bytes.equalsIgnoringCase(option, "keep-alive") {
            keepAlive = true
        } else if bytes.equalsIgnoringCase(option, "upgrade") {
            upgrade = true
        } else if bytes.isToken(option) {
            named += 1
            guard named <= Limits.connectionOptionsMax else {
                fault = .tooManyConnectionOptions
                return
            }
            mark(bytes, option, list)
        }
    }

    private func mark(_ bytes: Bytes, _ option: ByteRange, _ list: borrowing FieldList) {
        for position in 0..<list.count {
            let field = list[position]
            if field.name.count == option.count, !field.known.isProtected,
                bytes.equalsIgnoringCase(field.name, option)
            {
                list.markHopByHop(position)
            }
        }
    }
}
