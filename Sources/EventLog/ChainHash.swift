import COpenSSL

/// The SHA-256 (FIPS 180-4) of a line: what ties the next record to it.
public struct ChainHash: Equatable, Sendable {
    /// Characters of the text form.
    static let textBytes = 64

    private var bytes: (UInt64, UInt64, UInt64, UInt64)

    /// What stands before the first record of a log: 64 zeros.
    public static let origin = ChainHash(bytes: (0, 0, 0, 0))

    /// The hash of any bytes. Not for many: each call makes a context of its own.
    public static func of(_ bytes: [UInt8]) -> ChainHash {
        bytes.withUnsafeBytes { ChainDigest().hash($0) }
    }

    private init(bytes: (UInt64, UInt64, UInt64, UInt64)) { self.bytes = bytes }

    /// The hash that 64 lower-case hexadecimal digits name; nil for anything else.
    public init?(text: UnsafeRawBufferPointer) {
        guard text.count == Self.textBytes else { return nil }
        bytes = (0, 0, 0, 0)
        var isGood = true
        withUnsafeMutableBytes(of: &bytes) { raw in
            for index in 0..<32 {
                guard let high = Self.value(text[2 * index]),
                    let low = Self.value(text[2 * index + 1])
                else {
                    isGood = false
                    return
                }
                raw[index] = high << 4 | low
            }
        }
        if !isGood { return nil }
    }

    /// The same of a text.
    public init?(_ text: some StringProtocol) {
        var copy = String(text)
        guard let hash = copy.withUTF8({ ChainHash(text: UnsafeRawBufferPointer($0)) }) else {
            return nil
        }
        self = hash
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x61...0x66: digit - 0x57
        default: nil
        }
    }

    /// Writes the 64 hexadecimal digits.
    func write(to target: UnsafeMutableRawPointer) {
        withUnsafeBytes(of: bytes) { raw in
            for index in 0..<4 {
                let word = raw.load(fromByteOffset: 8 * index, as: UInt64.self).bigEndian
                Hexadecimal.write(word, to: target + 16 * index)
            }
        }
    }

    /// The 64 hexadecimal digits.
    public var text: String {
        String(unsafeUninitializedCapacity: Self.textBytes) {
            write(to: UnsafeMutableRawPointer($0.baseAddress!))
            return Self.textBytes
        }
    }

    public static func == (a: ChainHash, b: ChainHash) -> Bool { a.bytes == b.bytes }

    fileprivate static func fill(_ body: (UnsafeMutablePointer<UInt8>) -> Void) -> ChainHash {
        var hash = ChainHash.origin
        withUnsafeMutableBytes(of: &hash.bytes) {
            body($0.baseAddress!.assumingMemoryBound(to: UInt8.self))
        }
        return hash
    }
}

/// Computes hashes of lines; one context for all of them, no allocation for each.
final class ChainDigest {
    private let context: OpaquePointer
    private let algorithm: OpaquePointer

    /// Traps where OpenSSL has no SHA-256 or no memory: nothing can be logged then.
    init() {
        guard let algorithm = EVP_MD_fetch(nil, "SHA256", nil), let context = EVP_MD_CTX_new(),
            EVP_DigestInit_ex(context, algorithm, nil) == 1
        else { preconditionFailure("OpenSSL offers no SHA-256") }
        self.algorithm = algorithm
        self.context = context
    }

    deinit {
        EVP_MD_CTX_free(context)
        EVP_MD_free(algorithm)
    }

    /// The hash of `bytes`.
    func hash(_ bytes: UnsafeRawBufferPointer) -> ChainHash {
        ChainHash.fill { target in
            // Without an algorithm the context begins anew with the one that it has.
            let isDone =
                EVP_DigestInit_ex(context, nil, nil) == 1
                && EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
                && EVP_DigestFinal_ex(context, target, nil) == 1
            precondition(isDone, "SHA-256 of memory cannot fail")
        }
    }
}

/// Numbers as lower-case hexadecimal digits.
enum Hexadecimal {
    /// Writes the 16 digits of `word`: all at once, in the bytes of two words.
    static func write(_ word: UInt64, to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: digits(word >> 32), as: UInt64.self)
        target.storeBytes(of: digits(word & 0xFFFF_FFFF), toByteOffset: 8, as: UInt64.self)
    }

    /// The eight digits of 32 bits, the first in the lowest byte.
    private static func digits(_ value: UInt64) -> UInt64 {
        var x = value
        x = (x | x << 16) & 0x0000_FFFF_0000_FFFF
        x = (x | x << 8) & 0x00FF_00FF_00FF_00FF
        x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F
        let isLetter = (x &+ 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
        return (x &+ 0x3030_3030_3030_3030 &+ isLetter &* 0x27).byteSwapped
    }
}
