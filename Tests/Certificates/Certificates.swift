import Foundation
public import TLS

/// The certificates of `make` beside this file, made once in each process.
public let certificates: KeyFiles = {
    let make = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("make")
    let folder = FileManager.default.temporaryDirectory
        .appendingPathComponent("umbra-certificates-\(getpid())")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [make.path, folder.path]
    process.standardError = FileHandle.nullDevice
    try! process.run()
    process.waitUntilExit()
    var files = KeyFiles()
    for name in try! FileManager.default.contentsOfDirectory(atPath: folder.path) {
        files[name] = Array(try! Data(contentsOf: folder.appendingPathComponent(name)))
    }
    try? FileManager.default.removeItem(at: folder)
    return files
}()
