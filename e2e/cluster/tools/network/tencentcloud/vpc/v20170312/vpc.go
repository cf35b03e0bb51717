// Package v20170312 has the names that flannel's tencent-vpc backend uses, so that flanneld builds without Tencent
// Cloud's SDK, which not every module proxy serves. The backend is never chosen in a test cluster; if it were, each call fails.
package v20170312

import "errors"

var errNoCloud = errors.New("flanneld was built without Tencent Cloud's SDK")

type (
	Client struct{}
	Filter struct {
		Name   *string
		Values []*string
	}
	Route struct {
		RouteId                                                 *uint64
		DestinationCidrBlock, GatewayType, GatewayId, RouteType *string
		Enabled                                                 *bool
	}
	RouteTable struct {
		RouteTableId *string
		RouteSet     []*Route
	}
	DescribeRouteTablesRequest  struct{ Filters []*Filter }
	DescribeRouteTablesResponse struct {
		Response *struct{ RouteTableSet []*RouteTable }
	}
	RoutesRequest struct {
		RouteTableId *string
		Routes       []*Route
	}
)

func NewClientWithSecretId(string, string, string) (*Client, error) { return &Client{}, nil }
func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}
func NewDeleteRoutesRequest() *RoutesRequest { return &RoutesRequest{} }
func NewCreateRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errNoCloud
}
func (*Client) DeleteRoutes(*RoutesRequest) (any, error) { return nil, errNoCloud }
func (*Client) CreateRoutes(*RoutesRequest) (any, error) { return nil, errNoCloud }
