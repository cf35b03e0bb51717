// Package errors names the error type that flannel's tencent-vpc backend asks for.
package errors

// TencentCloudSDKError is never returned: there is no cloud behind this package.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string { return "no Tencent Cloud in a test cluster" }
