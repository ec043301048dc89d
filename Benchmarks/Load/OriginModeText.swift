extension OriginOptions {
    /// Sets the behaviour from text: a name of `OriginMode.names`, or `status=503;retry-after=2`
    /// for answers of that status with those fields.
    public mutating func apply(mode text: String) throws(ArgumentList.Fault) {
        if let known = OriginMode(name: text) {
            mode = known
            return
        }
        for part in text.split(separator: ";") {
            guard let equals = part.firstIndex(of: "=") else {
                throw ArgumentList.Fault("mode: unknown '\(part)'; see --help")
            }
            let value = part[part.index(after: equals)...]
            if part[..<equals] == "status" {
                guard let number = Int(value), number >= 200, number <= 599 else {
                    throw ArgumentList.Fault("mode: no status: '\(value)'")
                }
                status = number
            } else {
                fields.append("\(part[..<equals]): \(value)")
            }
        }
    }
}
