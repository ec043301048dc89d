import CLinux

/// One kind of request that a generator sends.
public struct LoadRequest: Sendable {
    /// The method.
    public var method = "GET"
    /// The request target, in origin form.
    public var path = "/"
    /// Field lines besides Host, Content-Length and Transfer-Encoding: `Name: value`, no CRLF.
    public var fields: [String] = []
    /// Bytes of the body; 0 sends none (and Content-Length: 0 with POST, PUT and PATCH).
    public var bodyBytes = 0
    /// The body itself; empty makes one of letters.
    public var body: [UInt8] = [] { didSet { bodyBytes = body.count } }
    /// Whether the body goes out chunked instead of with Content-Length.
    public var isChunked = false

    /// A request without body.
    public init(method: String = "GET", path: String = "/") {
        self.method = method
        self.path = path
    }
}

/// A field whose value is a number of its own in each request, zero-padded to
/// `LoadLimits.numberDigits`. Costs some nanoseconds.
public struct NumberedField: Sendable {
    /// Where its number comes from.
    public enum Source: Sendable {
        /// The request's number, from 0, in order of sending.
        case serial
        /// The number of the connection that it goes out on.
        case connection
        /// The serial number modulo `count`.
        case serialModulo(UInt64)
    }

    /// The field's name.
    public var name: String
    /// Where its number comes from.
    public var source: Source

    /// A field of that name.
    public init(name: String, source: Source) {
        self.name = name
        self.source = source
    }
}

/// The bytes of a request, made once, with the places where numbers go.
struct RequestTemplate {
    struct Place {
        var offset: Int
        var source: NumberedField.Source
    }

    let bytes: UnsafeMutablePointer<UInt8>
    let byteCount: Int
    let headBytes: Int
    let isHead: Bool
    private let places: UnsafeMutablePointer<Place>
    private let placeCount: Int

    init(_ request: LoadRequest, host: String, numbered: [NumberedField]) {
        var text = "\(request.method) \(request.path) HTTP/1.1\r\nHost: \(host)\r\n"
        var found: [Place] = []
        for field in numbered {
            text += "\(field.name): "
            found.append(Place(offset: text.utf8.count, source: field.source))
            text += String(repeating: "0", count: LoadLimits.numberDigits) + "\r\n"
        }
        for field in request.fields { text += field + "\r\n" }
        if request.isChunked {
            text += "Transfer-Encoding: chunked\r\n"
        } else if request.bodyBytes > 0 || ["POST", "PUT", "PATCH"].contains(request.method) {
            text += "Content-Length: \(request.bodyBytes)\r\n"
        }
        text += "\r\n"
        var all = Array(text.utf8)
        headBytes = all.count
        appendBody(
            &all, bytes: request.bodyBytes, of: request.body, chunked: request.isChunked)
        bytes = .allocate(capacity: all.count)
        bytes.initialize(from: all, count: all.count)
        byteCount = all.count
        isHead = request.method == "HEAD"
        places = .allocate(capacity: max(1, found.count))
        places.initialize(from: found, count: found.count)
        placeCount = found.count
    }

    func deallocate() {
        bytes.deallocate()
        places.deallocate()
    }

    /// Writes the numbers of one request. Before each `send`: connections share the template.
    @inline(__always)
    func number(serial: UInt64, connection: Int) {
        var index = 0
        while index < placeCount {
            let place = places[index]
            var value: UInt64
            switch place.source {
            case .serial: value = serial
            case .connection: value = UInt64(connection)
            case .serialModulo(let count): value = serial % count
            }
            var digit = LoadLimits.numberDigits - 1
            while digit >= 0 {
                bytes[place.offset + digit] = 0x30 + UInt8(truncatingIfNeeded: value % 10)
                value /= 10
                digit -= 1
            }
            index += 1
        }
    }
}

/// Appends `count` bytes of `body`, of letters where that is empty, in chunks of
/// `LoadLimits.chunkBytes` where asked.
func appendBody(
    _ bytes: inout [UInt8], bytes count: Int, of body: [UInt8] = [], chunked: Bool
) {
    func letters(_ from: Int, _ to: Int) {
        if !body.isEmpty {
            bytes += body[from..<to]
            return
        }
        for index in from..<to { bytes.append(0x61 + UInt8(index % 26)) }
    }
    guard chunked else {
        letters(0, count)
        return
    }
    var at = 0
    while at < count {
        let size = min(LoadLimits.chunkBytes, count - at)
        bytes += Array((String(size, radix: 16) + "\r\n").utf8)
        letters(at, at + size)
        bytes += [0x0D, 0x0A]
        at += size
    }
    bytes += Array("0\r\n\r\n".utf8)
}
